/** Background and torso layers, decoded a little ahead of their turn. */

const KEPT = 48;
const AHEAD = 6;
const OPTIONS = { premultiplyAlpha: "none", colorSpaceConversion: "none" };

/** Pictures of a packed talker. */
export class Pictures {
  constructor(talker) {
    this.talker = talker;
    this.hasTorso = talker.header.head.torso;
    this.cache = new Map();
  }

  static async read(talker) {
    const pictures = new Pictures(talker);
    pictures.background = await pictures.decode("background.webp");
    return pictures;
  }

  decode(name) {
    return createImageBitmap(new Blob([this.talker.part(name)], { type: "image/webp" }), OPTIONS);
  }

  /** The torso layer of a frame of the track, whose last row is the picture's; null for none. */
  torso(frame) {
    if (!this.hasTorso) return null;
    const found = this.cache.get(frame) ?? this.decode(torsoName(frame));
    this.cache.delete(frame);
    this.cache.set(frame, found);
    for (const [oldest, picture] of this.cache) {
      if (this.cache.size <= KEPT) break;
      this.cache.delete(oldest);
      picture.then((bitmap) => bitmap.close(), () => {});
    }
    return found;
  }

  /** Begin to decode what the motion shows next. */
  prepare(motion, place) {
    for (let k = 1; k <= AHEAD; k++) this.torso(motion.trackFrame(place + k))?.catch(() => {});
  }
}

const torsoName = (frame) => `torso/${String(frame).padStart(5, "0")}.webp`;

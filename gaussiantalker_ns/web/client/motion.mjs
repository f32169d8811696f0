/** Motion beside speech: head pose, brows, gaze and blinks; inference/motion.py. */

import { clamp, FPS, pingPong } from "./timebase.mjs";

const CLOSING_S = 0.1;
const CLOSED_S = 0.05;
const OPENING_S = 0.2;
const PULSE_S = CLOSING_S + CLOSED_S + OPENING_S;
const DEGREE = Math.PI / 180;

/** Closure of the lid, 0 open to 1 closed, at a time since its first movement. */
export function lidPulse(time) {
  const falling = clamp(time / CLOSING_S, 0, 1);
  const rising = clamp((time - CLOSING_S - CLOSED_S) / OPENING_S, 0, 1);
  return 0.25 * (1 - Math.cos(Math.PI * falling)) * (1 + Math.cos(Math.PI * rising));
}

/** The recorded motion of a talker, played in ping-pong, and generated blinks. */
export class Motion {
  constructor(talker) {
    const { motion } = talker.header;
    this.poses = talker.tensor("track.poses");
    this.eye = talker.tensor("track.eye");
    this.eyeSize = talker.shape("track.eye")[1];
    this.first = motion.turns[0];
    this.length = motion.turns[1] - motion.turns[0] + 1;
    this.blinks = motion.blinks;
    this.blinkSeconds = motion.blink_seconds;
    this.range = this.directions();
  }

  /** Frame of the track that is shown at a place of the motion. */
  trackFrame(place) {
    return this.first + pingPong(place, this.length);
  }

  /** Rotation row by row, then translation, of a frame of the track. */
  pose(frame) {
    return Float64Array.from(this.poses.subarray(12 * frame, 12 * frame + 12));
  }

  /**
   * The pose of a frame, turned.
   * @param {number} frame Frame of the track.
   * @param {{yaw?: number, pitch?: number, weight?: number}|null} turn Where the head looks, in
   *   degrees to the right of the picture and upwards; kept inside what the training saw. Of the
   *   way from the recorded pose a part may be taken by `weight`; null leaves that pose.
   */
  turned(frame, turn) {
    const pose = this.pose(frame);
    if (!turn) return pose;
    const own = direction(pose);
    const weight = clamp(turn.weight ?? 1, 0, 1);
    const change = (name) => {
      if (turn[name] === undefined) return 0;
      return weight * (clamp(turn[name], ...this.range[name]) - own[name]);
    };
    return rotate(pose, -change("yaw") * DEGREE, -change("pitch") * DEGREE);
  }

  /** Range of yaw and pitch in the track, in degrees. */
  directions() {
    const range = { yaw: [Infinity, -Infinity], pitch: [Infinity, -Infinity] };
    for (let frame = 0; frame < this.poses.length / 12; frame++) {
      const here = direction(this.pose(frame));
      for (const name of ["yaw", "pitch"]) {
        range[name] = [Math.min(range[name][0], here[name]), Math.max(range[name][1], here[name])];
      }
    }
    return range;
  }

  /** Eye signal of a frame of the track, as measured. */
  eyeOf(frame) {
    return this.eye.subarray(this.eyeSize * frame, this.eyeSize * (frame + 1));
  }

  /** Closure of the lids at a place of the motion. */
  closure(place) {
    const time = ((place + 0.5) / FPS) % this.blinkSeconds;
    let closure = 0;
    for (const [start, depth] of this.blinks) {
      if (start > time) break;
      if (time < start + PULSE_S) closure = Math.max(closure, depth * lidPulse(time - start));
    }
    return closure;
  }
}

/** Where a head looks: the axis out of its face, in OpenCV's camera. */
function direction(pose) {
  const [x, y, z] = [pose[2], pose[5], pose[8]];
  return { yaw: Math.atan2(x, -z) / DEGREE, pitch: Math.asin(clamp(-y, -1, 1)) / DEGREE };
}

/** Rotate a head about its own centre, about the camera's vertical axis and then the level one. */
function rotate(pose, about_y, about_x) {
  const turned = pose.slice();
  const [cy, sy, cx, sx] = [
    Math.cos(about_y), Math.sin(about_y), Math.cos(about_x), Math.sin(about_x),
  ];
  for (let column = 0; column < 3; column++) {
    const [x, y, z] = [pose[column], pose[3 + column], pose[6 + column]];
    const depth = -sy * x + cy * z;
    turned[column] = cy * x + sy * z;
    turned[3 + column] = cx * y - sx * depth;
    turned[6 + column] = sx * y + cx * depth;
  }
  return turned;
}

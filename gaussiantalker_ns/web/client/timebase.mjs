/** The time base of talkers: 25 frames and 16 000 samples a second. */

export const FPS = 25;
export const SAMPLE_RATE_HZ = 16000;
export const SAMPLES_PER_FRAME = SAMPLE_RATE_HZ / FPS;

/** Frames of a sound: the nearest number, at least one; halves go to the even one as in Python. */
export function numFramesOf(numSamples) {
  const exact = numSamples / SAMPLES_PER_FRAME;
  const low = Math.floor(exact);
  const isHalf = exact - low === 0.5;
  return Math.max(isHalf ? low + (low % 2) : Math.round(exact), 1);
}

/** Fold running positions into 0..length-1, forward and backward. */
export function pingPong(position, length) {
  if (length <= 1) return 0;
  const period = 2 * (length - 1);
  const folded = ((position % period) + period) % period;
  return folded < length ? folded : period - folded;
}

export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

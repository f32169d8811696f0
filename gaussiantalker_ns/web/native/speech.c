// What Whisper's encoder needs beside products: log-mel spectrum, layer norm, attention.
#include "matrix.h"
#include "vector.h"

#define FFT 400
#define HALF (FFT / 2)
#define HOP 160
#define NUM_MELS 80
#define BINS 208  // 201, rounded up to panels.

#define FLOOR -6.5f  // log10; the loudest value of all recordings is taken to be 1.5.
#define EPSILON 1e-5f

// Scratch of `log_mel` in floats, for so many samples.
int EXPORT(log_mel_scratch)(int num_samples) {
  return num_samples + FFT + num_samples / HOP * 2 * (HALF + BINS);
}

// Spectrum of a window of samples, a row of 80 numbers each 10 ms, mirrored beyond its ends.
//
// A real signal times a symmetric window is folded about its middle before the transform: cosines
// see the sums, sines the differences of what lies left and right of it.
void EXPORT(log_mel)(const float *samples, int num_samples, const float *cosines,
                     const float *sines, const float *filters, float *scratch, float *mels) {
  const int num_rows = num_samples / HOP;
  float *signal = scratch, *folded = signal + num_samples + FFT;
  float *spectrum = folded + 2 * HALF * num_rows;
  for (int i = 0; i < HALF; i++) {
    signal[i] = samples[HALF - i];
    signal[HALF + num_samples + i] = samples[num_samples - 2 - i];
  }
  __builtin_memcpy(signal + HALF, samples, num_samples * sizeof(float));
  for (int t = 0; t < num_rows; t++) {
    const float *x = signal + t * HOP;
    float *even = folded + t * 2 * HALF, *odd = even + HALF;
    for (int n = 1; n < HALF; n++) {
      even[n - 1] = x[n] + x[FFT - n];
      odd[n - 1] = x[n] - x[FFT - n];
    }
    even[HALF - 1] = x[HALF];
    odd[HALF - 1] = 0;
  }
  float *imaginary = spectrum + BINS;
  multiply(num_rows, BINS, HALF, folded, 2 * HALF, cosines, 0, spectrum, 2 * BINS, PLAIN, 0);
  multiply(num_rows, BINS, HALF, folded + HALF, 2 * HALF, sines, 0, imaginary, 2 * BINS, PLAIN, 0);
  for (int t = 0; t < num_rows; t++) {
    float *real = spectrum + t * 2 * BINS;
    for (int k = 0; k < BINS; k += 4) {
      vec re = LOAD(real + k), im = LOAD(real + BINS + k);
      STORE(real + k, FMA(re, re, MUL(im, im)));
    }
  }
  multiply(num_rows, NUM_MELS, BINS, spectrum, 2 * BINS, filters, 0, mels, NUM_MELS, PLAIN, 0);
  for (int i = 0; i < num_rows * NUM_MELS; i++) {
    float power = mels[i] < 1e-10f ? 1e-10f : mels[i];
    float level = log1(power) * 0.4342944819f;
    mels[i] = ((level < FLOOR ? FLOOR : level) + 4.f) * 0.25f;
  }
}

// Rows of zero mean and unit variance, times weight, plus bias; the width is a multiple of four.
void EXPORT(layer_norm)(int num_rows, int width, const float *x, const float *weight,
                        const float *bias, float *y) {
  for (int i = 0; i < num_rows; i++, x += width, y += width) {
    vec total = SPLAT(0), squares = SPLAT(0);
    for (int k = 0; k < width; k += 4) total = ADD(total, LOAD(x + k));
    vec mean = SPLAT(sum(total) / width);
    for (int k = 0; k < width; k += 4) {
      vec d = SUB(LOAD(x + k), mean);
      squares = FMA(d, d, squares);
    }
    vec scale = SPLAT(1.f / __builtin_sqrtf(sum(squares) / width + EPSILON));
    for (int k = 0; k < width; k += 4)
      STORE(y + k, FMA(MUL(SUB(LOAD(x + k), mean), scale), LOAD(weight + k), LOAD(bias + k)));
  }
}

// Softmax of a row of `count` numbers; those up to the next multiple of eight become 0.
static void softmax(float *row, int count) {
  const int end = padded(count);
  for (int k = count; k < end; k++) row[k] = -1e30f;
  vec most = LOAD(row), total = SPLAT(0);
  for (int k = 4; k < end; k += 4) most = MOST(most, LOAD(row + k));
  most = SPLAT(greatest(most));
  for (int k = 0; k < end; k += 4) {
    vec e = exp4(SUB(LOAD(row + k), most));
    STORE(row + k, e);
    total = ADD(total, e);
  }
  for (int k = count; k < end; k++) row[k] = 0;
  vec scale = SPLAT(1.f / sum(total));
  for (int k = 0; k < end; k += 4) STORE(row + k, MUL(LOAD(row + k), scale));
}

// Scratch of `attend` in floats.
int EXPORT(attend_scratch)(int num_queries, int num_keys, int size) {
  return padded(num_keys) * (2 * size + num_queries);
}

// Attention of scaled queries to keys, head by head; `size` is a head's width.
void EXPORT(attend)(int num_queries, int num_keys, int heads, int size, const float *queries,
                    const float *keys, const float *values, float *out, float *scratch) {
  const int width = heads * size, columns = padded(num_keys);
  float *key_panels = scratch, *value_panels = key_panels + columns * size;
  float *scores = value_panels + columns * size;
  for (int head = 0; head < heads; head++) {
    const int at = head * size;
    pack_transposed(size, num_keys, keys + at, width, key_panels);
    pack(num_keys, size, values + at, width, value_panels);
    multiply(num_queries, columns, size, queries + at, width, key_panels, 0, scores, columns,
             PLAIN, 0);
    for (int i = 0; i < num_queries; i++) softmax(scores + i * columns, num_keys);
    multiply(num_queries, size, num_keys, scores, columns, value_panels, 0, out + at, width, PLAIN,
             0);
  }
}

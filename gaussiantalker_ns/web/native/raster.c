// Splats into pixels without a GPU, nearest first, four pixels of a row at a time.
#include "vector.h"

#define SPLAT_FLOATS 12
#define MIN_ALPHA (1.f / 255)
#define MAX_ALPHA .999f
#define MIN_LEFT 1e-4f  // A pixel stops before its transmittance would fall to this.

static int row_length(int width) { return (width + 3) & ~3; }

// Floats of the planes red, green, blue and transmittance.
int EXPORT(raster_scratch)(int width, int height) { return 4 * row_length(width) * height; }

// One splat over the pixels x0, x0 + 1, ... x1 of a row. A stopped pixel has its sign turned.
static inline void blend_row(const float *splat, float dy, int x0, int x1, float *red, float *green,
                             float *blue, float *left) {
  const vec lanes = wasm_f32x4_make(.5f, 1.5f, 2.5f, 3.5f), opacity = SPLAT(splat[7]);
  const vec square = SPLAT(-.5f * splat[4]), slope = SPLAT(-splat[5] * dy);
  const vec constant = SPLAT(-.5f * splat[6] * dy * dy), u = SPLAT(splat[0]);
  const vec r = SPLAT(splat[8]), g = SPLAT(splat[9]), b = SPLAT(splat[10]);
  for (int x = x0; x <= x1; x += 4) {
    const vec kept = LOAD(left + x);
    // Half of the head lies behind what is opaque.
    if (!wasm_v128_any_true(wasm_f32x4_gt(kept, SPLAT(0)))) continue;
    const vec dx = ADD(lanes, SUB(SPLAT(x), u));
    vec alpha = MUL(opacity, exp4(FMA(dx, FMA(dx, square, slope), constant)));
    alpha = LEAST(alpha, SPLAT(MAX_ALPHA));
    alpha = wasm_v128_and(alpha, wasm_f32x4_ge(alpha, SPLAT(MIN_ALPHA)));
    vec weight = MUL(alpha, MOST(kept, SPLAT(0)));
    const vec rest = SUB(kept, weight), goes_on = wasm_f32x4_gt(rest, SPLAT(MIN_LEFT));
    weight = wasm_v128_and(weight, goes_on);
    STORE(left + x, wasm_v128_bitselect(rest, wasm_f32x4_neg(wasm_f32x4_abs(kept)), goes_on));
    STORE(red + x, FMA(weight, r, LOAD(red + x)));
    STORE(green + x, FMA(weight, g, LOAD(green + x)));
    STORE(blue + x, FMA(weight, b, LOAD(blue + x)));
  }
}

static int at_least(float x, int low) { int i = (int)__builtin_ceilf(x); return i < low ? low : i; }
static int at_most(float x, int high) { int i = (int)__builtin_floorf(x); return i > high ? high : i; }

// Draw splats over a picture of bytes RGBA, into another one.
void EXPORT(raster)(int count, const float *splats, int width, int height, const uint8_t *behind,
                    float *scratch, uint8_t *picture) {
  const int length = row_length(width), plane = length * height;
  float *red = scratch, *green = red + plane, *blue = green + plane, *left = blue + plane;
  for (int i = 0; i < plane; i += 4) {
    STORE(red + i, SPLAT(0));
    STORE(green + i, SPLAT(0));
    STORE(blue + i, SPLAT(0));
    STORE(left + i, SPLAT(1));
  }
  for (int n = 0; n < count; n++) {
    const float *s = splats + n * SPLAT_FLOATS, u = s[0], v = s[1], a = s[4], b = s[5], c = s[6];
    // The margin keeps rounding from cutting off a pixel that passes the alpha test.
    const float reach = 2 * log1(s[7] / MIN_ALPHA) + 1e-3f, det = a * c - b * b;
    const float half = __builtin_sqrtf(reach * a / det);
    const int y1 = at_most(v + half - .5f, height - 1);
    for (int y = at_least(v - half - .5f, 0); y <= y1; y++) {
      const float dy = y + .5f - v, shear = b * dy / a;
      const float square = (reach - c * dy * dy) / a + shear * shear;
      if (square < 0) continue;
      const float side = __builtin_sqrtf(square);
      const int x0 = at_least(u - shear - side - .5f, 0) & ~3;
      const int x1 = at_most(u - shear + side - .5f, width - 1), row = y * length;
      blend_row(s, dy, x0, x1, red + row, green + row, blue + row, left + row);
    }
  }
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const int i = y * length + x, to = 4 * (y * width + x);
      const float colour[3] = {red[i], green[i], blue[i]};
      const float rest = left[i] < 0 ? -left[i] : left[i];
      for (int k = 0; k < 3; k++) {
        float value = colour[k] + rest * (behind[to + k] * (1 / 255.f));
        value = value < 0 ? 0 : value > 1 ? 1 : value;
        picture[to + k] = (uint8_t)(value * 255.f + .5f);
      }
      picture[to + 3] = 255;
    }
}

// Splats into pixels without a GPU, nearest first, four pixels of a row at a time.
#include "vector.h"

#define SPLAT_FLOATS 12
#define MIN_ALPHA (1.f / 255)
#define MAX_ALPHA .999f
#define MIN_LEFT 1e-4f  // A pixel stops before its transmittance would fall to this.

#define GROUP 16  // Four pixels, one line of the cache: transmittance, then red, green and blue.

static int groups_of(int width) { return (width + 3) / 4; }

// Floats of the pixels while they are drawn.
int EXPORT(raster_scratch)(int width, int height) { return GROUP * groups_of(width) * height; }

// exp(-8 y) = P(y)^8, relatively to 2.4e-6 for y up to 0.69, where alpha is 1/255; as in
// kernels/tiles.py. Beyond .75 it is the value there, which counts as 0.
static inline vec falloff(vec y) {
  y = LEAST(y, SPLAT(.75f));
  const vec square = MUL(y, y);
  vec high = FMA(y, SPLAT(-.006003045f), SPLAT(.040072298f));
  vec middle = FMA(y, SPLAT(-.166177735f), SPLAT(.499940024f));
  vec e = FMA(square, FMA(square, high, middle), FMA(y, SPLAT(-.999998291f), SPLAT(.999999992f)));
  e = MUL(e, e);
  e = MUL(e, e);
  return MUL(e, e);
}

// One splat over some groups of a row, dy below its centre. A stopped pixel has its sign turned.
static inline void blend_row(const float *splat, float dy, int first, int last, float *row) {
  const vec lanes = wasm_f32x4_make(.5f, 1.5f, 2.5f, 3.5f), u = SPLAT(splat[0]);
  const vec square = SPLAT(splat[4] / 16), slope = SPLAT(splat[5] * dy / 8);
  const vec constant = SPLAT(splat[6] * dy * dy / 16), opacity = SPLAT(splat[7]);
  const vec red = SPLAT(splat[8]), green = SPLAT(splat[9]), blue = SPLAT(splat[10]);
  for (int group = first; group <= last; group++) {
    float *pixels = row + group * GROUP;
    const vec kept = LOAD(pixels);
    // Half of the head lies behind what is opaque.
    if (!wasm_v128_any_true(wasm_f32x4_gt(kept, SPLAT(0)))) continue;
    const vec dx = ADD(lanes, SUB(SPLAT(4 * group), u));
    vec alpha = MUL(opacity, falloff(FMA(dx, FMA(dx, square, slope), constant)));
    alpha = LEAST(alpha, SPLAT(MAX_ALPHA));
    alpha = wasm_v128_and(alpha, wasm_f32x4_ge(alpha, SPLAT(MIN_ALPHA)));
    vec weight = MUL(alpha, MOST(kept, SPLAT(0)));
    const vec rest = SUB(kept, weight), goes_on = wasm_f32x4_gt(rest, SPLAT(MIN_LEFT));
    weight = wasm_v128_and(weight, goes_on);
    STORE(pixels, wasm_v128_bitselect(rest, wasm_f32x4_neg(wasm_f32x4_abs(kept)), goes_on));
    STORE(pixels + 4, FMA(weight, red, LOAD(pixels + 4)));
    STORE(pixels + 8, FMA(weight, green, LOAD(pixels + 8)));
    STORE(pixels + 12, FMA(weight, blue, LOAD(pixels + 12)));
  }
}

static int at_least(float x, int low) { int i = (int)__builtin_ceilf(x); return i < low ? low : i; }
static int at_most(float x, int high) { int i = (int)__builtin_floorf(x); return i > high ? high : i; }

// The rows of the visible ellipse a dx^2 + 2 b dx dy + c dy^2 = reach, and its pixels in each.
static void draw(const float *splat, int width, int height, float *pixels) {
  const float u = splat[0], v = splat[1], a = splat[4], b = splat[5], c = splat[6];
  // The margin keeps rounding from cutting off a pixel that passes the alpha test.
  const float reach = 2 * log1(splat[7] / MIN_ALPHA) + 1e-3f;
  const float shear = b / a, wide = reach / a, curve = c / a - shear * shear;
  const float half = __builtin_sqrtf(wide / curve);
  const int last = at_most(v + half - .5f, height - 1), length = groups_of(width) * GROUP;
  for (int y = at_least(v - half - .5f, 0); y <= last; y++) {
    const float dy = y + .5f - v, square = wide - curve * dy * dy;
    if (square < 0) continue;
    const float side = __builtin_sqrtf(square), middle = u - shear * dy - .5f;
    const int x0 = at_least(middle - side, 0), x1 = at_most(middle + side, width - 1);
    if (x0 <= x1) blend_row(splat, dy, x0 / 4, x1 / 4, pixels + y * length);
  }
}

// Draw splats over a picture of bytes RGBA, into another one.
void EXPORT(raster)(int count, const float *splats, int width, int height, const uint8_t *behind,
                    float *scratch, uint8_t *picture) {
  const int num_groups = groups_of(width);
  for (int i = 0; i < num_groups * height; i++) {
    STORE(scratch + i * GROUP, SPLAT(1));
    for (int k = 4; k < GROUP; k += 4) STORE(scratch + i * GROUP + k, SPLAT(0));
  }
  for (int n = 0; n < count; n++) draw(splats + n * SPLAT_FLOATS, width, height, scratch);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const float *pixel = scratch + (y * num_groups + x / 4) * GROUP + x % 4;
      const float rest = __builtin_fabsf(pixel[0]);
      const int to = 4 * (y * width + x);
      for (int k = 0; k < 3; k++) {
        float value = pixel[4 + 4 * k] + rest * (behind[to + k] * (1 / 255.f));
        value = value < 0 ? 0 : value > 1 ? 1 : value;
        picture[to + k] = (uint8_t)(value * 255.f + .5f);
      }
      picture[to + 3] = 255;
    }
}

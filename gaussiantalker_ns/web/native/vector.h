// Four floats at a time: the names that the other files use, and elementary functions.
#ifndef VECTOR_H
#define VECTOR_H
#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

typedef v128_t vec;

#define SPLAT(x) wasm_f32x4_splat(x)
#define LOAD(p) wasm_v128_load(p)
#define STORE(p, x) wasm_v128_store(p, x)
#define LOAD_SPLAT(p) wasm_v128_load32_splat(p)
#define ADD(a, b) wasm_f32x4_add(a, b)
#define SUB(a, b) wasm_f32x4_sub(a, b)
#define MUL(a, b) wasm_f32x4_mul(a, b)
// One instruction each; the ones that honour NaN take six.
#define LEAST(a, b) wasm_f32x4_pmin(a, b)
#define MOST(a, b) wasm_f32x4_pmax(a, b)
#define LANE(x, i) wasm_f32x4_extract_lane(x, i)
#ifdef RELAXED
#define FMA(a, b, c) wasm_f32x4_relaxed_madd(a, b, c)
#else
#define FMA(a, b, c) ADD(MUL(a, b), c)
#endif

static inline float sum(vec x) { return (LANE(x, 0) + LANE(x, 1)) + (LANE(x, 2) + LANE(x, 3)); }

static inline float greatest(vec x) {
  float a = LANE(x, 0) > LANE(x, 1) ? LANE(x, 0) : LANE(x, 1);
  float b = LANE(x, 2) > LANE(x, 3) ? LANE(x, 2) : LANE(x, 3);
  return a > b ? a : b;
}

// Exponential to two units in the last place, for arguments up to 88; below -80 it is 0, as products
// with numbers next to the smallest ones would take a hundred times as long.
static inline vec exp4(vec x) {
  const vec counts = wasm_f32x4_ge(x, SPLAT(-80.f));
  x = MOST(LEAST(x, SPLAT(88.f)), SPLAT(-80.f));
  // Added to 1.5 x 2^23, a number is rounded to a whole one, which stands in the lowest bits.
  const vec shifted = ADD(MUL(x, SPLAT(1.44269504f)), SPLAT(12582912.f));
  const vec k = SUB(shifted, SPLAT(12582912.f));
  x = SUB(x, MUL(k, SPLAT(0.693359375f)));
  x = SUB(x, MUL(k, SPLAT(-2.12194440e-4f)));
  vec y = SPLAT(1.9875691500e-4f);
  y = FMA(y, x, SPLAT(1.3981999507e-3f));
  y = FMA(y, x, SPLAT(8.3334519073e-3f));
  y = FMA(y, x, SPLAT(4.1665795894e-2f));
  y = FMA(y, x, SPLAT(1.6666665459e-1f));
  y = FMA(y, x, SPLAT(5.0000001201e-1f));
  y = FMA(y, MUL(x, x), ADD(x, SPLAT(1.f)));
  const vec power = wasm_i32x4_add(wasm_i32x4_shl(shifted, 23), SPLAT(1.f));
  return wasm_v128_and(MUL(y, power), counts);
}

static inline float exp1(float x) { return LANE(exp4(SPLAT(x)), 0); }

// Natural logarithm of a positive number.
static inline float log1(float x) {
  union { float number; uint32_t bits; } parts = {x};
  int exponent = (int)(parts.bits >> 23) - 126;
  parts.bits = (parts.bits & 0x7fffff) | 0x3f000000;
  float m = parts.number;
  if (m < 0.707106781f) {
    exponent--;
    m = m + m - 1;
  } else {
    m -= 1;
  }
  float square = m * m, y = 7.0376836292e-2f;
  y = y * m - 1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m - 1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m - 1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m - 2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * square + exponent * -2.12194440e-4f - 0.5f * square;
  return m + y + exponent * 0.693359375f;
}

// x times the normal distribution's integral; erf by Abramowitz and Stegun 7.1.26, to 1.5e-7.
static inline vec gelu4(vec x) {
  vec u = MUL(x, SPLAT(0.70710678f)), a = wasm_f32x4_abs(u);
  vec t = wasm_f32x4_div(SPLAT(1.f), FMA(a, SPLAT(0.3275911f), SPLAT(1.f)));
  vec p = SPLAT(1.061405429f);
  p = FMA(p, t, SPLAT(-1.453152027f));
  p = FMA(p, t, SPLAT(1.421413741f));
  p = FMA(p, t, SPLAT(-0.284496736f));
  p = FMA(p, t, SPLAT(0.254829592f));
  vec erf = SUB(SPLAT(1.f), MUL(MUL(p, t), exp4(wasm_f32x4_neg(MUL(a, a)))));
  erf = wasm_v128_bitselect(erf, x, wasm_i32x4_splat(0x7fffffff));
  return MUL(MUL(x, SPLAT(0.5f)), ADD(SPLAT(1.f), erf));
}
#endif

// Gaussians onto the picture: position, conic and colour of every splat, sorted by depth.
#include "vector.h"

#define SPLAT_FLOATS 12
#define MIN_ALPHA (1.f / 255)
#define MAX_SIGMAS 3.33f
#define NEAR 0.01
#define BLUR 0.3  // Added to both variances, in square pixels.

// Columns of a Gaussian before activation; spherical harmonics follow, three a base.
enum { MEAN, SCALE = 3, QUAT = 6, OPACITY = 10, HARMONICS = 11 };

typedef struct { double fx, fy, cx, cy; } Camera;

// Values of the bases at a unit direction, up to the degree.
static void harmonics(int degree, float x, float y, float z, float *base) {
  base[0] = 0.2820947917738781f;
  if (degree < 1) return;
  base[1] = -0.48860251190292f * y;
  base[2] = 0.48860251190292f * z;
  base[3] = -0.48860251190292f * x;
  if (degree < 2) return;
  float xx = x * x, yy = y * y, zz = z * z;
  base[4] = 1.092548430592079f * x * y;
  base[5] = -1.092548430592079f * y * z;
  base[6] = 0.9461746957575601f * zz - 0.3153915652525201f;
  base[7] = -1.092548430592079f * x * z;
  base[8] = 0.5462742152960395f * (xx - yy);
  if (degree < 3) return;
  float middle = 0.4570457994644658f - 2.285228997322329f * zz;
  base[9] = -0.5900435899266435f * y * (3 * xx - yy);
  base[10] = 2.890611442640554f * x * y * z;
  base[11] = y * middle;
  base[12] = z * (1.865881662950577f * zz - 1.119528997770346f);
  base[13] = x * middle;
  base[14] = 1.445305721320277f * z * (xx - yy);
  base[15] = -0.5900435899266435f * x * (xx - 3 * yy);
}

static double within(double x, double low, double high) {
  return x < low ? low : x > high ? high : x;
}

// Entries xx, xy, yy of the covariance in the picture, of a Gaussian at camera position (x, y, z).
static void covariance(const float *gaussian, const double *R, const Camera *camera, double x,
                       double y, double z, int width, int height, double *entries) {
  const double mx = .15 * width / camera->fx, my = .15 * height / camera->fy;
  const double sx = within(x / z, -(camera->cx / camera->fx + mx),
                           (width - camera->cx) / camera->fx + mx);
  const double sy = within(y / z, -(camera->cy / camera->fy + my),
                           (height - camera->cy) / camera->fy + my);
  const double a = camera->fx / z, b = -a * sx, c = camera->fy / z, e = -c * sy;
  double w = gaussian[QUAT], i = gaussian[QUAT + 1], j = gaussian[QUAT + 2], k = gaussian[QUAT + 3];
  const double inverse = 1 / __builtin_sqrt(w * w + i * i + j * j + k * k);
  w *= inverse, i *= inverse, j *= inverse, k *= inverse;
  const double axes[9] = {
      1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j),
      2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i),
      2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)};
  double row_x[3], row_y[3];
  for (int n = 0; n < 3; n++) {
    row_x[n] = a * R[n] + b * R[6 + n];
    row_y[n] = c * R[3 + n] + e * R[6 + n];
  }
  double xx = BLUR, xy = 0, yy = BLUR;
  for (int n = 0; n < 3; n++) {
    const double scale = exp1(gaussian[SCALE + n]);
    const double p =
        (row_x[0] * axes[n] + row_x[1] * axes[3 + n] + row_x[2] * axes[6 + n]) * scale;
    const double q =
        (row_y[0] * axes[n] + row_y[1] * axes[3 + n] + row_y[2] * axes[6 + n]) * scale;
    xx += p * p;
    xy += p * q;
    yy += q * q;
  }
  entries[0] = xx, entries[1] = xy, entries[2] = yy;
}

// Order of ascending positive keys, three passes of eleven bits.
static uint32_t *sorted(const uint32_t *keys, uint32_t *order, uint32_t *other, int count) {
  static uint32_t starts[2048];
  for (int shift = 0; shift < 33; shift += 11) {
    for (int i = 0; i < 2048; i++) starts[i] = 0;
    for (int i = 0; i < count; i++) starts[keys[i] >> shift & 2047]++;
    uint32_t total = 0;
    for (int i = 0; i < 2048; i++) {
      const uint32_t here = starts[i];
      starts[i] = total;
      total += here;
    }
    for (int i = 0; i < count; i++) other[starts[keys[order[i]] >> shift & 2047]++] = order[i];
    uint32_t *last = order;
    order = other;
    other = last;
  }
  return order;
}

// Scratch of `project` in floats.
int EXPORT(project_scratch)(int count) { return count * (SPLAT_FLOATS + 3); }

// Project Gaussians [count][stride]; returns how many splats are seen, the nearest first.
//
// pose: rows of the head's rotation to the camera, then its translation. A splat is u, v, half
// extents, conic a, b, c, opacity, red, green, blue, depth.
int EXPORT(project)(int count, int stride, const float *gaussians, int degree, const double *pose,
                    double fx, double fy, double cx, double cy, int width, int height,
                    float *scratch, float *splats) {
  const Camera camera = {fx, fy, cx, cy};
  const double *R = pose, *t = pose + 9;
  double eye[3];
  for (int k = 0; k < 3; k++) eye[k] = -(R[k] * t[0] + R[3 + k] * t[1] + R[6 + k] * t[2]);
  uint32_t *keys = (uint32_t *)(scratch + count * SPLAT_FLOATS), *order = keys + count;
  int seen = 0;
  for (int i = 0; i < count; i++) {
    const float *g = gaussians + i * stride;
    const float opacity = 1.f / (1.f + exp1(-g[OPACITY]));
    if (opacity < MIN_ALPHA) continue;
    const double X = g[MEAN], Y = g[MEAN + 1], Z = g[MEAN + 2];
    const double z = R[6] * X + R[7] * Y + R[8] * Z + t[2];
    if (z < NEAR) continue;
    const double x = R[0] * X + R[1] * Y + R[2] * Z + t[0];
    const double y = R[3] * X + R[4] * Y + R[5] * Z + t[1];
    double entries[3];
    covariance(g, R, &camera, x, y, z, width, height, entries);
    const double xx = entries[0], xy = entries[1], yy = entries[2], det = xx * yy - xy * xy;
    if (!(det > 0)) continue;
    float extent = __builtin_sqrtf(2 * log1(opacity / MIN_ALPHA));
    if (extent > MAX_SIGMAS) extent = MAX_SIGMAS;
    const float u = fx * x / z + cx, v = fy * y / z + cy;
    const float half_u = __builtin_ceilf(extent * __builtin_sqrtf(xx));
    const float half_v = __builtin_ceilf(extent * __builtin_sqrtf(yy));
    if (u + half_u <= 0 || u - half_u >= width || v + half_v <= 0 || v - half_v >= height) continue;
    float dx = X - eye[0], dy = Y - eye[1], dz = Z - eye[2], base[16], *s = scratch + seen * SPLAT_FLOATS;
    const float inverse = 1.f / __builtin_sqrtf(dx * dx + dy * dy + dz * dz);
    harmonics(degree, dx * inverse, dy * inverse, dz * inverse, base);
    s[0] = u, s[1] = v, s[2] = half_u, s[3] = half_v;
    s[4] = yy / det, s[5] = -xy / det, s[6] = xx / det, s[7] = opacity;
    for (int c = 0; c < 3; c++) {
      float colour = .5f;
      for (int k = 0; k < (degree + 1) * (degree + 1); k++)
        colour += base[k] * g[HARMONICS + 3 * k + c];
      s[8 + c] = colour < 0 ? 0 : colour;
    }
    s[11] = z;
    // Positive floats sort as their bits do.
    __builtin_memcpy(keys + seen, s + 11, 4);
    order[seen] = seen;
    seen++;
  }
  order = sorted(keys, order, order + count, seen);
  for (int i = 0; i < seen; i++)
    __builtin_memcpy(splats + i * SPLAT_FLOATS, scratch + order[i] * SPLAT_FLOATS,
                     SPLAT_FLOATS * sizeof(float));
  return seen;
}

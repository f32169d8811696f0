// The Gaussians of a frame: attention to the frame's tokens, layer norm, hidden layer, offsets.
//
// After one attention layer the feature of a Gaussian is x + P v, where x is the same in all frames,
// v holds the rows that the tokens contribute and P the Gaussian's attention weights. With x and v
// centred over their channels, the layer norm's variance and the hidden layer split into parts that
// are made once, and a few numbers a Gaussian and frame (kernels/deformation.py has the formulas).
#include "matrix.h"
#include "vector.h"

#define TOKENS 4  // Missing ones are masked out.
#define BLOCK 96
#define EPSILON 1e-5f

// Filled by the client, in this order; see `Deformation` in head.mjs.
typedef struct {
  int count, width, heads, hidden, outputs;
  const float *features;   // [count][width], normalised tri-plane features.
  const float *mask;       // [count][TOKENS], logarithms.
  const float *query, *query_bias;  // [width][width], a row for each output.
  const float *key, *key_bias, *value, *value_bias;  // Panels.
  const float *out, *out_bias;  // [width][width], a row for each input.
  const float *scaled;     // Hidden layer times the norm's weight, [width][hidden].
  const float *shift;      // [hidden].
  const float *output, *output_bias;  // Panels.
  const float *canonical;  // [count][outputs], before activation.
  float *gaussians;        // The same with offsets.
  float *squares;          // [count], mean square of x.
  float *hidden_x;         // [count][hidden].
  float *scratch;
} Deformation;

int EXPORT(deform_scratch)(int width, int heads, int hidden) {
  const int rows = TOKENS * heads;
  return 2 * TOKENS * width + 2 * width * 2 * rows + 2 * rows + 2 * rows * width + rows * rows +
         rows * hidden + BLOCK * (2 * rows + hidden + 1) + width * hidden;
}

// What all frames share.
void EXPORT(deform_prepare)(const Deformation *d) {
  const int width = d->width, hidden = d->hidden;
  float *panels = d->scratch, *centred = panels + width * hidden;
  pack(width, hidden, d->scaled, hidden, panels);
  for (int i = 0; i < d->count; i++) {
    float mean = 0, square = 0;
    for (int k = 0; k < width; k++)
      mean += centred[k] = d->features[i * width + k] + d->out_bias[k];
    mean /= width;
    for (int k = 0; k < width; k++) {
      centred[k] -= mean;
      square += centred[k] * centred[k];
    }
    d->squares[i] = square / width;
    multiply(1, hidden, width, centred, width, panels, 0, d->hidden_x + i * hidden, hidden, PLAIN,
             0);
  }
}

typedef struct {
  float *keys, *values, *maps, *panels, *bias, *rows, *gram, *hidden_v, *scores, *scale, *hidden;
} Work;

static Work work_of(const Deformation *d) {
  const int rows = TOKENS * d->heads;
  Work w;
  w.keys = d->scratch;
  w.values = w.keys + TOKENS * d->width;
  w.maps = w.values + TOKENS * d->width;
  w.panels = w.maps + d->width * 2 * rows;
  w.bias = w.panels + d->width * 2 * rows;
  w.rows = w.bias + 2 * rows;
  w.gram = w.rows + 2 * rows * d->width;
  w.hidden_v = w.gram + rows * rows;
  w.scores = w.hidden_v + rows * d->hidden;
  w.hidden = w.scores + BLOCK * 2 * rows;
  w.scale = w.hidden + BLOCK * d->hidden;
  return w;
}

static float dot(const float *a, const float *b, int count) {
  float total = 0;
  for (int k = 0; k < count; k++) total += a[k] * b[k];
  return total;
}

// Fold the four projections into maps [width][2 rows]: scores, then overlaps with the rows v.
static void fold_tokens(const Deformation *d, const float *tokens, const Work *w) {
  const int width = d->width, size = width / d->heads, rows = TOKENS * d->heads;
  const float root = 1.f / __builtin_sqrtf((float)size);
  multiply(TOKENS, width, width, tokens, width, d->key, d->key_bias, w->keys, width, PLAIN, 0);
  multiply(TOKENS, width, width, tokens, width, d->value, d->value_bias, w->values, width, PLAIN,
           0);
  for (int j = 0; j < rows; j++) {
    const int at = j / TOKENS * size, token = j % TOKENS;
    const float *key = w->keys + token * width + at, *value = w->values + token * width + at;
    float *score = w->rows + rows * width, *row = w->rows + j * width, mean = 0;
    for (int k = 0; k < width; k++) score[k] = row[k] = 0;
    for (int e = 0; e < size; e++)
      for (int k = 0; k < width; k++) {
        score[k] += key[e] * root * d->query[(at + e) * width + k];
        row[k] += value[e] * d->out[(at + e) * width + k];
      }
    w->bias[j] = dot(key, d->query_bias + at, size) * root;
    for (int k = 0; k < width; k++) mean += row[k];
    mean /= width;
    for (int k = 0; k < width; k++) {
      row[k] -= mean;
      w->maps[k * 2 * rows + j] = score[k];
      w->maps[k * 2 * rows + rows + j] = row[k] / width;
    }
    w->bias[rows + j] = dot(row, d->out_bias, width) / width;
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < rows; j++)
      w->gram[i * rows + j] = dot(w->rows + i * width, w->rows + j * width, width) / width;
  for (int j = 0; j < rows; j++)
    for (int o = 0; o < d->hidden; o++) {
      float total = 0;
      for (int k = 0; k < width; k++) total += w->rows[j * width + k] * d->scaled[k * d->hidden + o];
      w->hidden_v[j * d->hidden + o] = total;
    }
  pack(width, 2 * rows, w->maps, 2 * rows, w->panels);
}

// Scores of one Gaussian become weights, in place; returns the variance of its feature.
static float weigh(float *scores, const float *gram, const float *mask, float square, int heads) {
  const int rows = TOKENS * heads;
  const vec reached = LOAD(mask);
  for (int head = 0; head < heads; head++) {
    vec s = ADD(LOAD(scores + TOKENS * head), reached);
    vec e = exp4(SUB(s, SPLAT(greatest(s))));
    STORE(scores + TOKENS * head, MUL(e, SPLAT(1.f / sum(e))));
  }
  vec variance = SPLAT(0);
  for (int j = 0; j < rows; j += 4) {
    vec overlap = MUL(SPLAT(2.f), LOAD(scores + rows + j));
    for (int l = 0; l < rows; l++)
      overlap = FMA(LOAD_SPLAT(scores + l), LOAD(gram + l * rows + j), overlap);
    variance = FMA(LOAD(scores + j), overlap, variance);
  }
  return square + sum(variance);
}

// Hidden units o, o + 1, ... o + 7 of some Gaussians: relu(scale (W x + P (W v)) + shift).
#define DEFINE_UNITS(COUNT)                                                                     \
  static void units_##COUNT(const Deformation *d, const Work *w, int first, int i, int o) {     \
    const int rows = TOKENS * d->heads, hidden = d->hidden;                                     \
    const float *x = d->hidden_x + (first + i) * hidden + o, *p = w->scores + i * 2 * rows;     \
    vec low[COUNT], high[COUNT];                                                                \
    for (int n = 0; n < COUNT; n++) {                                                           \
      low[n] = LOAD(x + n * hidden);                                                            \
      high[n] = LOAD(x + n * hidden + 4);                                                       \
    }                                                                                           \
    for (int j = 0; j < rows; j++) {                                                            \
      const float *v = w->hidden_v + j * hidden + o;                                            \
      const vec a = LOAD(v), b = LOAD(v + 4);                                                   \
      _Pragma("clang loop unroll(full)") for (int n = 0; n < COUNT; n++) {                      \
        const vec weight = LOAD_SPLAT(p + n * 2 * rows + j);                                    \
        low[n] = FMA(weight, a, low[n]);                                                        \
        high[n] = FMA(weight, b, high[n]);                                                      \
      }                                                                                         \
    }                                                                                           \
    const vec shift_0 = LOAD(d->shift + o), shift_1 = LOAD(d->shift + o + 4), zero = SPLAT(0);  \
    for (int n = 0; n < COUNT; n++) {                                                           \
      const vec scale = LOAD_SPLAT(w->scale + i + n);                                           \
      float *to = w->hidden + (i + n) * hidden + o;                                             \
      STORE(to, MOST(FMA(low[n], scale, shift_0), zero));                             \
      STORE(to + 4, MOST(FMA(high[n], scale, shift_1), zero));                        \
    }                                                                                           \
  }

DEFINE_UNITS(4)
DEFINE_UNITS(1)

static void hidden_units(const Deformation *d, const Work *w, int first, int count) {
  for (int o = 0; o < d->hidden; o += PANEL) {
    int i = 0;
    for (; i + 4 <= count; i += 4) units_4(d, w, first, i, o);
    for (; i < count; i++) units_1(d, w, first, i, o);
  }
}

// Deform the head by the tokens [TOKENS][width] of a frame.
void EXPORT(deform)(const Deformation *d, const float *tokens) {
  const int width = d->width, rows = TOKENS * d->heads, outputs = d->outputs;
  const Work w = work_of(d);
  fold_tokens(d, tokens, &w);
  for (int first = 0; first < d->count; first += BLOCK) {
    const int count = d->count - first < BLOCK ? d->count - first : BLOCK;
    multiply(count, 2 * rows, width, d->features + first * width, width, w.panels, w.bias,
             w.scores, 2 * rows, PLAIN, 0);
    for (int i = 0; i < count; i++) {
      const float variance = weigh(w.scores + i * 2 * rows, w.gram, d->mask + (first + i) * TOKENS,
                                   d->squares[first + i], d->heads);
      w.scale[i] = 1.f / __builtin_sqrtf(variance + EPSILON);
    }
    hidden_units(d, &w, first, count);
    float *moved = d->gaussians + first * outputs;
    __builtin_memcpy(moved, d->canonical + first * outputs, count * outputs * sizeof(float));
    multiply(count, outputs, d->hidden, w.hidden, d->hidden, d->output, d->output_bias, moved,
             outputs, PLAIN, 1);
  }
}

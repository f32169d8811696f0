// C = activation(A B + bias (+ C)): rows of A at any stride, B in panels [columns / 8][depth][8].
#include "matrix.h"
#include "vector.h"

#define NEGATIVE_SLOPE 0.02f

// Weights [depth][columns] as panels; columns beyond the last one are zero.
void EXPORT(pack)(int depth, int columns, const float *rows, int stride, float *panels) {
  for (int j = 0; j < padded(columns); j++)
    for (int k = 0; k < depth; k++)
      panels[(j / PANEL * depth + k) * PANEL + j % PANEL] = j < columns ? rows[k * stride + j] : 0;
}

// The same of a transposed matrix [columns][depth].
void pack_transposed(int depth, int columns, const float *rows, int stride, float *panels) {
  for (int j = 0; j < padded(columns); j++)
    for (int k = 0; k < depth; k++)
      panels[(j / PANEL * depth + k) * PANEL + j % PANEL] = j < columns ? rows[j * stride + k] : 0;
}

static inline vec activate(vec x, int activation) {
  switch (activation) {
    case GELU: return gelu4(x);
    case LEAKY: return MOST(x, MUL(x, SPLAT(NEGATIVE_SLOPE)));
    case RELU: return MOST(x, SPLAT(0));
    default: return x;
  }
}

// One panel under some rows, which are held in registers.
#define DEFINE_ROWS(COUNT)                                                                   \
  static void rows_##COUNT(int depth, const float *a, int stride_a, const float *panel,      \
                           vec bias_0, vec bias_1, float *c, int stride_c, int activation,   \
                           int accumulate) {                                                 \
    vec low[COUNT], high[COUNT];                                                             \
    for (int i = 0; i < COUNT; i++) {                                                        \
      low[i] = accumulate ? ADD(bias_0, LOAD(c + i * stride_c)) : bias_0;                    \
      high[i] = accumulate ? ADD(bias_1, LOAD(c + i * stride_c + 4)) : bias_1;               \
    }                                                                                        \
    for (int k = 0; k < depth; k++) {                                                        \
      vec x = LOAD(panel + k * PANEL), y = LOAD(panel + k * PANEL + 4);                      \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < COUNT; i++) {                   \
        vec factor = LOAD_SPLAT(a + i * stride_a + k);                                       \
        low[i] = FMA(factor, x, low[i]);                                                     \
        high[i] = FMA(factor, y, high[i]);                                                   \
      }                                                                                      \
    }                                                                                        \
    for (int i = 0; i < COUNT; i++) {                                                        \
      STORE(c + i * stride_c, activate(low[i], activation));                                 \
      STORE(c + i * stride_c + 4, activate(high[i], activation));                            \
    }                                                                                        \
  }

DEFINE_ROWS(6)
DEFINE_ROWS(4)
DEFINE_ROWS(2)
DEFINE_ROWS(1)

#define STEP(COUNT)                                                                             \
  for (; i + COUNT <= num_rows; i += COUNT)                                                     \
    rows_##COUNT(depth, a + i * stride_a, stride_a, panel, bias_0, bias_1, c + i * stride_c + j, \
                 stride_c, activation, accumulate);

// Columns are a multiple of eight; bias may be 0.
void EXPORT(multiply)(int num_rows, int columns, int depth, const float *a, int stride_a,
                      const float *panels, const float *bias, float *c, int stride_c,
                      int activation, int accumulate) {
  for (int j = 0; j < columns; j += PANEL) {
    const float *panel = panels + j * depth;
    vec bias_0 = bias ? LOAD(bias + j) : SPLAT(0), bias_1 = bias ? LOAD(bias + j + 4) : SPLAT(0);
    int i = 0;
    STEP(6) STEP(4) STEP(2) STEP(1)
  }
}

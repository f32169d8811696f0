// Matrix products with weights in panels of eight columns.
#ifndef MATRIX_H
#define MATRIX_H

enum { PLAIN, GELU, LEAKY, RELU };

#define PANEL 8

static inline int padded(int columns) { return (columns + PANEL - 1) & ~(PANEL - 1); }

void pack(int depth, int columns, const float *rows, int stride, float *panels);
void pack_transposed(int depth, int columns, const float *rows, int stride, float *panels);
void multiply(int num_rows, int columns, int depth, const float *a, int stride_a,
              const float *panels, const float *bias, float *c, int stride_c, int activation,
              int accumulate);
#endif

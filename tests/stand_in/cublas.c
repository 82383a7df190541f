/* cuBLAS without a GPU: handles. Products do nothing, as all kernels. Its headers need more than torch brings. */
#include <stdlib.h>

int cublasCreate_v2(void **handle) {
  *handle = calloc(1, 64);
  return 0;
}
int cublasGetMathMode(void *handle, int *mode) { return *mode = 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { return *mode = 0; }

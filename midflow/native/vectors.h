/* What every source of the kernels needs: vectors, and threads. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float v4 __attribute__((vector_size(16)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef int32_t i16x __attribute__((vector_size(64)));
typedef uint32_t u4x __attribute__((vector_size(16)));
typedef uint32_t u8x __attribute__((vector_size(32)));
typedef uint32_t u16x __attribute__((vector_size(64)));
typedef uint16_t h8 __attribute__((vector_size(16)));
typedef uint16_t h16 __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

/* Does [first, last) of some work, in one of the threads. */
typedef void midflow_part(const void *work, int first, int last, int thread);

/* Does [0, count) of a work, `each` at a time, in as many threads of the OpenMP that torch has loaded,
   whose pool is warm; in one where there is none. */
void midflow_share(midflow_part *part, const void *work, int count, int each, int threads);

/* What every source of the kernels needs: vectors, and threads. */

#include <math.h>
#include <stddef.h>
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
#define LIMITS(vector, mask, name)                                                         \
    /* The lesser and, `b` where `a` is no number, the greater of two. */                  \
    INLINE vector name##_least(vector a, vector b) {                                       \
        const mask is_less = a < b;                                                        \
        return (vector)(((mask)a & is_less) | ((mask)b & ~is_less));                       \
    }                                                                                      \
    INLINE vector name##_greatest(vector a, vector b) {                                    \
        const mask is_more = a > b;                                                        \
        return (vector)(((mask)a & is_more) | ((mask)b & ~is_more));                       \
    }
LIMITS(v4, i4, v4)
LIMITS(v16, i16x, v16)

INLINE int smaller(int a, int b) { return a < b ? a : b; }

/* Processors that code is compiled for; what is compiled for ANY runs on all of them.
   EACH_PROCESSOR(COPY, f) has COPY(f, processor, target) for the first PROCESSORS of them. */
enum { ANY, AVX2, AVX512, AVX512_BFLOAT16 };
#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("avx2,bmi,bmi2,fma")))
#define FOR_AVX512 __attribute__((target("avx2,bmi,bmi2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#define FOR_AVX512_BFLOAT16                                                                \
    __attribute__((target("avx2,bmi,bmi2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")))
#define PROCESSORS 3
#define EACH_PROCESSOR(COPY, f) COPY(f, any, ) COPY(f, avx2, FOR_AVX2) COPY(f, avx512, FOR_AVX512)
#else
#define PROCESSORS 1
#define EACH_PROCESSOR(COPY, f) COPY(f, any, )
#endif

/* The rows function of f, and its copies for each processor, with a copy of the job as well: no store can
   be taken for one into that. JOB is the job's type. */
#define ROWS(f) ROWS_OF(f)
#define ROWS_OF(f) f##_rows
#define COPY(f, processor, target)                                                         \
    target static void f##_##processor(const JOB *job, int first, int last) {              \
        const JOB own = *job;                                                              \
        ROWS_OF(f)(&own, first, last);                                                     \
    }
#define COPIES_OF(f) {EACH_PROCESSOR(COPY_NAMED, f)}
#define COPY_NAMED(f, processor, target) f##_##processor,

/* The greatest of them that this processor runs. */
int midflow_processor(void);

/* Does [first, last) of some work, in one of the threads. */
typedef void midflow_part(const void *work, int first, int last, int thread);

/* Does [0, count) of a work, `each` at a time, in as many threads of the OpenMP that torch uses,
   whose pool is warm; in one where none was named. */
void midflow_share(midflow_part *part, const void *work, int count, int each, int threads);

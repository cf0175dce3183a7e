/* midflow's kernels for inference on a CPU: what lies between the convolutions of a PyramidNet, each
   in one pass over the picture. What they compute is said in midflow/nets; here it is only quicker.

   A kernel works on rows [first, last) of a job; `midflow_run_rows` shares the rows out among threads. */

#include "vectors.h"

#define LANES 16
#define MOST_MATCHED 64
#define MOST_SIDE 9
#define MOST_LIKENESS 96 /* MOST_SIDE squared, PASSING and a vector more */
#define NORM_FLOOR 1e-2f /* as in nets/pyramid_blocks.py, like the next two */
#define SHARPNESS 4.0f
#define PASSING 3
#define DAMPING 5e-4f    /* as in nets/photometric.py, like the next two */
#define LONGEST 1.0f
#define REACH 4          /* twice the radius of the window */
#define KEPT 9           /* rows that one row of it needs, and of warped pictures: */
#define WARPED_ROWS 12
#define CUBIC -0.75f     /* Keys' parameter, torch's choice */

/* Everything a kernel may need of one level; midflow/native/library.py fills the same. Pictures are
   (height, width, 4), estimates (height, width, 16): flow, logit, carried
   features. Elements are what convolutions read, channels last. */
struct job {
    int32_t height, width, previous_height, previous_width;
    int32_t encoder_width, features, matched, radius;
    int32_t entrance_channels, grid;
    float ratio; /* size of this level over that of the previous estimate */
    float time, low, high;
    float slowest; /* square of the motion below which an estimate is dropped */
    const float *source;
    float *picture0, *picture1;
    const void *features0, *features1;
    const float *previous;
    float *missed, *unit, *misfit;
    void *x, *views, *merged, *out;
    float *state, *frame, *flow, *weight;
};

#define JOB struct job
static int failures; /* of allocations, since the library was loaded */

#include "sampling.h"
#include "photometric.h"

#define ELEMENT_IS_BFLOAT16 0
#include "elements.h"
#include "pyramid.h"
#include "ifnet.h"
#undef ELEMENT_IS_BFLOAT16
#define ELEMENT_IS_BFLOAT16 1
#include "elements.h"
#include "pyramid.h"
#include "ifnet.h"

typedef void kernel(const struct job *, int, int);

/* In the order of library.py's list, once for each type and processor. */
#define ENTRY(f, type) COPIES_OF(f##_##type),
#define ENTRIES(type)                                                                      \
    ENTRY(interleave, type) ENTRY(halve, type) ENTRY(level_inputs, type) ENTRY(normalize, type) \
    ENTRY(misfit, type) ENTRY(correlate, type) ENTRY(update, type) ENTRY(detail_inputs, type)   \
    ENTRY(paint, type) ENTRY(work, type) ENTRY(block_inputs, type) ENTRY(add_flow, type)        \
    ENTRY(mix_frames, type)
static kernel *const KERNELS[][PROCESSORS] = {ENTRIES(float32) ENTRIES(bfloat16)};

static int most = AVX512_BFLOAT16;

/* For comparisons: which processor is the greatest that code may be for. */
void midflow_limit_processor(int limit) { most = limit; }

#if defined(__x86_64__)
#include <cpuid.h>

/* By CPUID itself: not every compiler brings along what its own question for features needs. Bits as in
   Intel's Software Developer's Manual, volume 2, CPUID, and volume 1, 13.3 (what the system saves). */
static int ask_processor(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, BMI = 1 << 3, AVX2_ITSELF = 1 << 5, BMI2 = 1 << 8, BF16 = 1 << 5 };
    const unsigned for_avx2 = BMI | AVX2_ITSELF | BMI2;
    const unsigned for_avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F DQ CD BW VL */
    unsigned a, b, c, d, features, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (FMA | OSXSAVE)) != (FMA | OSXSAVE)) return ANY;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &features, &c, &d)) return ANY;
    if ((saved & 0x6) != 0x6 || (features & for_avx2) != for_avx2) return ANY;
    if ((saved & 0xe6) != 0xe6 || (features & for_avx512) != for_avx512) return AVX2;
    return a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & BF16 ? AVX512_BFLOAT16 : AVX512;
}
#else
static int ask_processor(void) { return ANY; }
#endif

int midflow_processor(void) {
    static int known = -1; /* several threads may find the same */
    int found = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (found < 0) __atomic_store_n(&known, found = ask_processor(), __ATOMIC_RELAXED);
    return smaller(found, most);
}

struct shared {
    midflow_part *part;
    const void *work;
    int count, each, next, thread;
};

static void take_parts(void *pointer) {
    struct shared *shared = pointer;
    const int thread = __atomic_fetch_add(&shared->thread, 1, __ATOMIC_RELAXED);
    for (;;) {
        const int first = __atomic_fetch_add(&shared->next, shared->each, __ATOMIC_RELAXED);
        if (first >= shared->count) return;
        const int last = first + shared->each < shared->count ? first + shared->each : shared->count;
        shared->part(shared->work, first, last, thread);
    }
}

static void take_parts_of(int32_t *number, int32_t *bound, struct shared *shared) {
    (void)number, (void)bound;
    take_parts(shared);
}

typedef void gomp_parallel(void (*)(void *), void *, unsigned, unsigned);
typedef int32_t kmp_number(const void *);
typedef void kmp_push(const void *, int32_t, int32_t);
typedef void kmp_fork(const void *, int32_t, void (*)(int32_t *, int32_t *, struct shared *), ...);

static gomp_parallel *gomp;
static kmp_number *number_of_thread;
static kmp_push *push_threads;
static kmp_fork *fork_threads;

/* The functions by which programs use OpenMP: GNU's, or the three of Intel's and LLVM's. */
void midflow_use_gomp(gomp_parallel *parallel) { gomp = parallel; }

void midflow_use_kmp(kmp_number *number, kmp_push *push, kmp_fork *fork) {
    number_of_thread = number, push_threads = push, fork_threads = fork;
}

void midflow_share(midflow_part *part, const void *work, int count, int each, int threads) {
    /* where it was called from: compiled code (2), and no names */
    static const struct {
        int32_t reserved, flags, more[2];
        const char *names;
    } place = {0, 2, {0, 0}, ";unknown;unknown;0;0;;"};
    struct shared shared = {part, work, count, each, 0, 0};
    if (threads > 1 && gomp) gomp(take_parts, &shared, threads, 0);
    else if (threads > 1 && fork_threads) {
        push_threads(&place, number_of_thread(&place), threads);
        fork_threads(&place, 1, take_parts_of, &shared);
    } else take_parts(&shared);
}

struct rows_of {
    kernel *kernel;
    const struct job *job;
};

static void run_rows(const void *work, int first, int last, int thread) {
    const struct rows_of *rows = work;
    (void)thread;
    rows->kernel(rows->job, first, last);
}

/* Runs a kernel on rows [0, rows) in at most `threads` threads. Not 0: memory did not suffice. */
int midflow_run_rows(int number, const struct job *job, int rows, int threads) {
    const int processor = smaller(midflow_processor(), PROCESSORS - 1);
    const struct rows_of work = {KERNELS[number][processor], job};
    const int before = __atomic_load_n(&failures, __ATOMIC_RELAXED);
    int each = rows;
    if ((ptrdiff_t)rows * job->width <= 4096) threads = 1;
    if (threads > 1) {
        /* even: some take rows in pairs; not too few: some make the rows around theirs as well */
        each = (rows / (2 * threads) + 2) / 2 * 2;
        if (each < 16) each = 16;
    }
    midflow_share(run_rows, &work, rows, each, threads);
    return __atomic_load_n(&failures, __ATOMIC_RELAXED) != before;
}

int midflow_job_size(void) { return sizeof(struct job); }

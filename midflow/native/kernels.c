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

/* In the order of library.py's list, once for each type. */
static kernel *const KERNELS[] = {
    interleave_float32, halve_float32, level_inputs_float32, normalize_float32,
    misfit_float32, correlate_float32, update_float32, detail_inputs_float32, paint_float32,
    work_float32, block_inputs_float32, add_flow_float32, mix_frames_float32,
    interleave_bfloat16, halve_bfloat16, level_inputs_bfloat16, normalize_bfloat16,
    misfit_bfloat16, correlate_bfloat16, update_bfloat16, detail_inputs_bfloat16, paint_bfloat16,
    work_bfloat16, block_inputs_bfloat16, add_flow_bfloat16, mix_frames_bfloat16,
};

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

void midflow_share(midflow_part *part, const void *work, int count, int each, int threads) {
    typedef void parallel(void (*)(void *), void *, unsigned, unsigned);
    static parallel *gomp;
    if (!gomp) gomp = (parallel *)dlsym(RTLD_DEFAULT, "GOMP_parallel");
    struct shared shared = {part, work, count, each, 0, 0};
    if (gomp && threads > 1) gomp(take_parts, &shared, threads, 0);
    else take_parts(&shared);
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
    const struct rows_of work = {KERNELS[number], job};
    const int before = __atomic_load_n(&failures, __ATOMIC_RELAXED);
    int each = rows;
    if ((long)rows * job->width <= 4096) threads = 1;
    if (threads > 1) {
        /* even: some take rows in pairs; not too few: some make the rows around theirs as well */
        each = (rows / (2 * threads) + 2) / 2 * 2;
        if (each < 16) each = 16;
    }
    midflow_share(run_rows, &work, rows, each, threads);
    return __atomic_load_n(&failures, __ATOMIC_RELAXED) != before;
}

int midflow_job_size(void) { return sizeof(struct job); }

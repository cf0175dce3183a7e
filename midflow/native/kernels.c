/* midflow's kernels for inference on a CPU: what lies between the convolutions of a PyramidNet, each
   in one pass over the picture. What they compute is said in midflow/nets; here it is only quicker.

   A kernel works on rows [first, last) of a job; `midflow_run` shares the rows out among threads. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define MOST_MATCHED 64
#define MOST_SIDE 9
#define MOST_LIKENESS 96 /* MOST_SIDE squared and a vector more */
#define NORM_FLOOR 1e-2f /* as in nets/pyramid_blocks.py */
#define DAMPING 5e-4f    /* as in nets/photometric.py, like the next two */
#define LONGEST 1.0f
#define REACH 4          /* twice the radius of the window */
#define KEPT 9           /* rows that one row of it needs, and of warped pictures: */
#define WARPED_ROWS 12
#define CUBIC -0.75f     /* Keys' parameter, torch's choice */

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

/* Everything a kernel may need of one level; midflow/native/library.py fills the same. Pictures are
   (height, width, 4), estimates (height, width, 16): flow, logit, carried
   features. Elements are what convolutions read, channels last. */
struct job {
    int32_t height, width, previous_height, previous_width;
    int32_t encoder_width, features, matched, radius;
    int32_t entrance_channels, spare;
    float ratio; /* size of this level over that of the previous estimate */
    float time, low, high;
    const float *source;
    float *picture0, *picture1;
    const void *features0, *features1;
    const float *previous;
    float *missed, *unit;
    void *x, *views, *merged, *out;
    float *state, *frame, *flow, *weight;
};

INLINE v4 load4(const float *from) {
    v4 value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE v16 load16f(const float *from) {
    v16 value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store16f(float *to, v16 value) { memcpy(to, &value, sizeof value); }

INLINE v8 load8f(const float *from) {
    v8 value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE v8 joined(v4 a, v4 b) { return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7); }

INLINE float sum8(v8 x) {
    const v4 half = __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
    return half[0] + half[1] + (half[2] + half[3]);
}

/* Three lines at a pixel. */
INLINE v4 color_at(const float *lines, long stride, int x) {
    return (v4){lines[x], lines[stride + x], lines[2 * stride + x]};
}

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

INLINE float inside(float place, int length) {
    place = place > 0 ? place : 0;
    return place < length - 1 ? place : length - 1;
}

/* Where a flow points to in both pictures, {x0, y0, x1, y1}, inside of them: whole part and rest. */
struct places {
    i4 whole;
    v4 rest;
};

INLINE struct places places_at(const struct job *job, int column, int row, v4 flow) {
    const float right = job->width - 1, bottom = job->height - 1;
    v4 place = (v4){column, row, column, row} + flow;
    place = v4_least(v4_greatest(place, (v4){0}), (v4){right, bottom, right, bottom});
    const i4 whole = __builtin_convertvector(place, i4);
    return (struct places){whole, place - __builtin_convertvector(whole, v4)};
}

/* The two rows of the previous estimate around a row of this level. */
struct line {
    const float *top, *bottom;
    float down, step;
};

INLINE struct line line_at(const struct job *job, int row) {
    if (!job->previous) return (struct line){0};
    const float y = inside((row + 0.5f) * (1 / job->ratio) - 0.5f, job->previous_height);
    const int top = (int)y, bottom = top + (top < job->previous_height - 1);
    const long stride = 16L * job->previous_width;
    return (struct line){job->previous + top * stride, job->previous + bottom * stride, y - top,
                         1 / job->ratio};
}

/* How to read the previous estimate at a column: bilinear, areas aligned. */
struct corner {
    const float *top_left, *top_right, *bottom_left, *bottom_right;
    float across;
};

INLINE struct corner corner_at(const struct job *job, struct line line, int column) {
    const float x = inside((column + 0.5f) * line.step - 0.5f, job->previous_width);
    const int left = (int)x, right = left + (left < job->previous_width - 1);
    return (struct corner){line.top + 16 * left, line.top + 16 * right, line.bottom + 16 * left,
                           line.bottom + 16 * right, x - left};
}

/* The previous estimate brought to this size; flows, its first four, in pixels of it. */
INLINE v16 state_at(const struct job *job, struct line line, int column) {
    const struct corner corner = corner_at(job, line, column);
    const v16 top = load16f(corner.top_left), bottom = load16f(corner.bottom_left);
    const v16 upper = top + corner.across * (load16f(corner.top_right) - top);
    const v16 lower = bottom + corner.across * (load16f(corner.bottom_right) - bottom);
    const float r = job->ratio;
    const v16 scale = {r, r, r, r, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    return (upper + line.down * (lower - upper)) * scale;
}

/* Only its flow and logit. */
INLINE v8 level_at(const struct job *job, struct line line, int column) {
    const struct corner corner = corner_at(job, line, column);
    const v8 top = load8f(corner.top_left), bottom = load8f(corner.bottom_left);
    const v8 upper = top + corner.across * (load8f(corner.top_right) - top);
    const v8 lower = bottom + corner.across * (load8f(corner.bottom_right) - bottom);
    const float r = job->ratio;
    return (upper + line.down * (lower - upper)) * (v8){r, r, r, r, 1, 1, 1, 1};
}

/* Only its flow. */
INLINE v4 flow_at(const struct job *job, struct line line, int column) {
    const struct corner corner = corner_at(job, line, column);
    const v4 top = load4(corner.top_left), bottom = load4(corner.bottom_left);
    const v4 upper = top + corner.across * (load4(corner.top_right) - top);
    const v4 lower = bottom + corner.across * (load4(corner.bottom_right) - bottom);
    return (upper + line.down * (lower - upper)) * job->ratio;
}

/* A share of the photometric step as flows from the time to both frames. */
INLINE v4 both_ways(const struct job *job, long i, long size, float share) {
    const float x = share * job->missed[i], y = share * job->missed[size + i];
    const float before = -job->time, after = 1 - job->time;
    return (v4){before * x, before * y, after * x, after * y};
}

/* 1 / (1 + exp(-x)), exp by its power of two and a polynomial (Cephes): 2e-7. */
INLINE v16 sigmoid(v16 x) {
    const v16 most = (v16){0} + 80;
    v16 z = -v16_least(v16_greatest(x, -most), most);
    const i16x power = __builtin_convertvector(z * 1.44269504f + 128.5f, i16x) - 128;
    const v16 whole = __builtin_convertvector(power, v16);
    z = z - whole * 0.693359375f + whole * 2.12194440e-4f;
    v16 sum = z * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * z + 8.3334519073e-3f;
    sum = sum * z + 4.1665795894e-2f;
    sum = sum * z + 1.6666665459e-1f;
    sum = sum * z + 5.0000001201e-1f;
    return 1 / (1 + (sum * z * z + z + 1) * (v16)((power + 127) << 23));
}

/* Flow and logit of LANES pixels, and where the flow points to: whole parts and rests. Coordinates
   are x and y in frame 0, x and y in frame 1. */
struct block {
    float level[LANES][8];
    int32_t whole[4][LANES];
    float rest[4][LANES];
};

/* What follows from block->level: places no further than `beyond` outside of the pictures. */
INLINE void point(const struct job *job, struct block *block, int column, int row, float beyond) {
    for (int k = 0; k < 4; k++) {
        v16 place;
        for (int lane = 0; lane < LANES; lane++)
            place[lane] = block->level[lane][k] + (k % 2 ? row : column + lane);
        const float last = (k % 2 ? job->height : job->width) - 1 + beyond;
        place = v16_least(v16_greatest(place, (v16){0} - beyond), (v16){0} + last);
        const i16x whole = __builtin_convertvector(place + 8, i16x) - 8; /* down: all are above -8 */
        memcpy(block->whole[k], &whole, sizeof whole);
        store16f(block->rest[k], place - __builtin_convertvector(whole, v16));
    }
}

/* Weights of the four neighbours of a place `t` beyond the second (Keys, 1981). */
INLINE v16 cubic_outer(v16 t) { return ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC; }

INLINE v16 cubic_inner(v16 t) { return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1; }

INLINE void cubic(const float rest[LANES], float weights[4][LANES]) {
    const v16 t = load16f(rest);
    store16f(weights[0], cubic_outer(t + 1));
    store16f(weights[1], cubic_inner(t));
    store16f(weights[2], cubic_inner(1 - t));
    store16f(weights[3], cubic_outer(2 - t));
}

/* A picture between its pixels from 4 x 4 of them from (left, top) on, the border repeated, by the
   weights of one lane along and across. */
INLINE v4 bicubic(const struct job *job, const float *picture, int left, int top,
                  const float along[4][LANES], const float across[4][LANES], int lane) {
    const long stride = 4L * job->width;
    v16 sum = {0};
    if (left >= 0 && top >= 0 && left + 3 < job->width && top + 3 < job->height) {
        const float *from = picture + top * stride + 4 * left;
        for (int k = 0; k < 4; k++) sum += across[k][lane] * load16f(from + k * stride);
    } else {
        for (int k = 0; k < 4; k++) {
            const int row = top + k < 0 ? 0 : top + k < job->height ? top + k : job->height - 1;
            float pixels[16];
            for (int j = 0; j < 4; j++) {
                const int column = left + j < 0 ? 0 : left + j < job->width ? left + j : job->width - 1;
                memcpy(pixels + 4 * j, picture + row * stride + 4 * column, 16);
            }
            sum += across[k][lane] * load16f(pixels);
        }
    }
    return along[0][lane] * __builtin_shufflevector(sum, sum, 0, 1, 2, 3)
         + along[1][lane] * __builtin_shufflevector(sum, sum, 4, 5, 6, 7)
         + along[2][lane] * __builtin_shufflevector(sum, sum, 8, 9, 10, 11)
         + along[3][lane] * __builtin_shufflevector(sum, sum, 12, 13, 14, 15);
}

/* Both pictures read along the flows of a block and mixed by its weights. */
INLINE void mix(const struct job *job, struct block *block, int column, int row,
                const float weights[LANES], float colors[LANES][4]) {
    /* beyond the border everything is the border: no further than any weight reaches */
    point(job, block, column, row, 4);
    float cubics[4][4][LANES];
    for (int k = 0; k < 4; k++) cubic(block->rest[k], cubics[k]);
    for (int lane = 0; lane < LANES; lane++) {
        const v4 warped0 = bicubic(job, job->picture0, block->whole[0][lane] - 1,
                                   block->whole[1][lane] - 1, cubics[0], cubics[1], lane);
        const v4 warped1 = bicubic(job, job->picture1, block->whole[2][lane] - 1,
                                   block->whole[3][lane] - 1, cubics[2], cubics[3], lane);
        const v4 mixed = warped1 + weights[lane] * (warped0 - warped1);
        memcpy(colors[lane], &mixed, sizeof mixed);
    }
}

/* Bilinear, `axis` 0 or 2: in frame 0 or frame 1, for one lane. */
INLINE v4 bilinear(const struct job *job, const float *picture, const struct block *block, int axis,
                   int lane) {
    const int left = block->whole[axis][lane], top = block->whole[axis + 1][lane];
    const float *from = picture + 4L * (top * (long)job->width + left);
    const long right = left < job->width - 1 ? 4 : 0;
    const long below = top < job->height - 1 ? 4L * job->width : 0;
    const v4 a = load4(from), b = load4(from + right);
    const v4 c = load4(from + below), d = load4(from + below + right);
    const v4 upper = a + block->rest[axis][lane] * (b - a), lower = c + block->rest[axis][lane] * (d - c);
    return upper + block->rest[axis + 1][lane] * (lower - upper);
}

/* Weights of the places i - 4 ... i + 4 in the mean over 5 places taken twice, of `count` there are. */
INLINE void window(int i, int count, float weights[KEPT]) {
    memset(weights, 0, KEPT * sizeof *weights);
    const int radius = REACH / 2;
    for (int j = i - radius < 0 ? 0 : i - radius; j <= i + radius && j < count; j++) {
        const int low = j - radius < 0 ? 0 : j - radius;
        const int high = j + radius < count ? j + radius : count - 1;
        const int own_low = i - radius < 0 ? 0 : i - radius;
        const int own_high = i + radius < count ? i + radius : count - 1;
        const float share = 1.0f / ((own_high - own_low + 1) * (high - low + 1));
        for (int k = low; k <= high; k++) weights[k - i + REACH] += share;
    }
}

/* What is kept of the rows around the one at work, in lines of `stride` floats: whole vectors, of
   which those beyond the width hold anything. */
struct rows {
    long stride;
    int next;        /* the first row whose products are not known */
    int next_warped; /* likewise warped pictures */
    float *warped;   /* WARPED_ROWS of six lines */
    float *smooth;   /* KEPT of five */
    float *raw, *mean;
};

INLINE struct rows rows_from(const struct job *job, int first) {
    const long stride = (job->width + LANES - 1) / LANES * LANES + 2 * LANES;
    const long count = (6 * WARPED_ROWS + 5 * (KEPT + 1) + 1) * stride + LANES;
    float *memory = calloc(count, sizeof *memory);
    if (!memory) abort();
    struct rows rows = {.stride = stride, .warped = memory};
    rows.smooth = rows.warped + 6 * WARPED_ROWS * stride;
    rows.raw = rows.smooth + 5 * KEPT * stride + LANES;
    rows.mean = rows.raw + 5 * stride;
    rows.next = first - REACH < 0 ? 0 : first - REACH;
    rows.next_warped = rows.next > 0 ? rows.next - 1 : 0;
    return rows;
}

INLINE float *warped_row(const struct rows *rows, int y) {
    return rows->warped + 6 * (y % WARPED_ROWS) * rows->stride;
}

INLINE float *smooth_row(const struct rows *rows, int y) {
    return rows->smooth + 5 * (y % KEPT) * rows->stride;
}

/* One row of both pictures warped along the previous estimate, as six lines: bilinear, the border
   repeated. */
INLINE void warp_row(const struct job *job, const struct rows *rows, int y) {
    const long stride = rows->stride;
    const struct line line = line_at(job, y);
    float *to = warped_row(rows, y);
    for (int x = 0; x < job->width; x += LANES, to += LANES) {
        struct block block = {{{0}}};
        if (job->previous)
            for (int lane = 0; lane < LANES; lane++) {
                const v4 flow = flow_at(job, line, x + lane);
                memcpy(block.level[lane], &flow, sizeof flow);
            }
        point(job, &block, x, y, 0);
        for (int lane = 0; lane < LANES; lane++) {
            const v4 read0 = bilinear(job, job->picture0, &block, 0, lane);
            const v4 read1 = bilinear(job, job->picture1, &block, 2, lane);
            for (int k = 0; k < 3; k++) {
                to[k * stride + lane] = read0[k];
                to[(3 + k) * stride + lane] = read1[k];
            }
        }
    }
}

/* Products of slopes and differences along one row, five lines, smoothed along it. */
INLINE void products(const struct job *job, const struct rows *rows, int y) {
    const int width = job->width;
    const long stride = rows->stride;
    const float *up = warped_row(rows, y > 0 ? y - 1 : 0), *here = warped_row(rows, y);
    const float *down = warped_row(rows, y < job->height - 1 ? y + 1 : y);
    const float t = job->time;
    float *raw = rows->raw, *smooth = smooth_row(rows, y), *mean = rows->mean;
    for (int color = 0; color < 3; color++, up += stride, here += stride, down += stride) {
        for (int x = 0; x < width; x += LANES) {
            const v16 after = load16f(here + 3 * stride + x);
            store16f(mean + x, after + t * (load16f(here + x) - after));
        }
        mean[-1] = mean[0];
        mean[width] = mean[width - 1];
        for (int x = 0; x < width; x += LANES) {
            const v16 above = load16f(up + 3 * stride + x), below = load16f(down + 3 * stride + x);
            const v16 along = 0.5f * (load16f(mean + x + 1) - load16f(mean + x - 1));
            const v16 across = 0.5f * (below + t * (load16f(down + x) - below)
                                       - (above + t * (load16f(up + x) - above)));
            const v16 difference = load16f(here + x) - load16f(here + 3 * stride + x);
            const v16 found[5] = {along * along, along * across, across * across,
                                  along * difference, across * difference};
            for (int k = 0; k < 5; k++)
                store16f(raw + k * stride + x,
                         color ? load16f(raw + k * stride + x) + found[k] : found[k]);
        }
    }
    for (int k = 0; k < 5; k++, raw += stride, smooth += stride) {
        for (int x = 0; x < width; x += LANES) {
            v16 sum = 5 * load16f(raw + x);
            for (int j = 1; j <= REACH; j++)
                sum += (float)(5 - j) * (load16f(raw + x - j) + load16f(raw + x + j));
            store16f(smooth + x, sum * (1 / 25.0f));
        }
        for (int x = 0; x < width; x++) { /* near the ends, less is averaged over */
            if (x == REACH && width - REACH > x) x = width - REACH;
            float weights[KEPT], sum = 0;
            window(x, width, weights);
            for (int j = -REACH; j <= REACH; j++)
                if (x + j >= 0 && x + j < width) sum += weights[j + REACH] * raw[x + j];
            smooth[x] = sum;
        }
    }
}

/* One row of the photometric step (see nets/photometric.py), into job->missed; what it needs of the
   rows around it is made as it goes. */
INLINE void photometric_row(const struct job *job, struct rows *rows, int y) {
    const int width = job->width, height = job->height;
    for (; rows->next <= y + REACH && rows->next < height; rows->next++) {
        for (; rows->next_warped <= rows->next + 1 && rows->next_warped < height; rows->next_warped++)
            warp_row(job, rows, rows->next_warped);
        products(job, rows, rows->next);
    }
    float weights[KEPT];
    window(y, height, weights);
    float *step_x = job->missed + (long)y * width, *step_y = step_x + (long)height * width;
    for (int x = 0; x < width; x += LANES) {
        v16 sums[5] = {{0}};
        for (int j = -REACH; j <= REACH; j++) {
            if (y + j < 0 || y + j >= height) continue;
            const float *from = smooth_row(rows, y + j) + x;
            for (int k = 0; k < 5; k++) sums[k] += weights[j + REACH] * load16f(from + k * rows->stride);
        }
        const v16 xx = sums[0] + DAMPING, xy = sums[1], yy = sums[2] + DAMPING;
        const v16 scale = 1 / (xx * yy - xy * xy);
        float along[LANES], across[LANES];
        store16f(along, (yy * sums[3] - xy * sums[4]) * scale);
        store16f(across, (xx * sums[4] - xy * sums[3]) * scale);
        for (int lane = 0; lane < LANES; lane++) {
            const float length = sqrtf(along[lane] * along[lane] + across[lane] * across[lane]);
            const float shorter = LONGEST / (length > LONGEST ? length : LONGEST);
            along[lane] *= shorter;
            across[lane] *= shorter;
        }
        const int count = width - x < LANES ? width - x : LANES;
        memcpy(step_x + x, along, count * sizeof *along);
        memcpy(step_y + x, across, count * sizeof *across);
    }
}

#define ELEMENT_IS_BFLOAT16 0
#include "elements.h"
#undef ELEMENT_IS_BFLOAT16
#define ELEMENT_IS_BFLOAT16 1
#include "elements.h"

typedef void kernel(const struct job *, int, int);

/* In the order of library.py's list, once for each type. */
static kernel *const KERNELS[] = {
    interleave_float32, halve_float32, level_inputs_float32, normalize_float32,
    correlate_float32, update_float32, detail_inputs_float32, paint_float32,
    interleave_bfloat16, halve_bfloat16, level_inputs_bfloat16, normalize_bfloat16,
    correlate_bfloat16, update_bfloat16, detail_inputs_bfloat16, paint_bfloat16,
};

struct work {
    kernel *kernel;
    const struct job *job;
    int rows, each, next;
};

static void share(void *pointer) {
    struct work *work = pointer;
    for (;;) {
        const int first = __atomic_fetch_add(&work->next, work->each, __ATOMIC_RELAXED);
        if (first >= work->rows) return;
        const int last = first + work->each < work->rows ? first + work->each : work->rows;
        work->kernel(work->job, first, last);
    }
}

/* Runs a kernel on rows [0, rows) with `threads` of the OpenMP that torch has loaded, whose pool is
   warm; alone where there is none. */
void midflow_run(int number, const struct job *job, int rows, int threads) {
    typedef void parallel(void (*)(void *), void *, unsigned, unsigned);
    static parallel *gomp;
    if (!gomp) gomp = (parallel *)dlsym(RTLD_DEFAULT, "GOMP_parallel");
    struct work work = {KERNELS[number], job, rows, rows, 0};
    if (gomp && threads > 1 && (long)rows * job->width > 4096) {
        work.each = (rows / (2 * threads) + 2) / 2 * 2; /* even: some take rows in pairs */
        gomp(share, &work, threads, 0);
    } else {
        share(&work);
    }
}

int midflow_job_size(void) { return sizeof(struct job); }

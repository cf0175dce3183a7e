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
#define KNOWN 48         /* most channels that are known beside the features of both views */
#define MOST_MATCHED 64
#define MOST_SIDE 9
#define MOST_LIKENESS 88 /* MOST_SIDE squared, in whole vectors of 8 */
#define NORM_FLOOR 1e-2f /* as in nets/pyramid_blocks.py */
#define DAMPING 5e-4f    /* as in nets/photometric.py, like the next two */
#define LONGEST 1.0f
#define REACH 4          /* twice the radius of the window */
#define CUBIC -0.75f     /* Keys' parameter, torch's choice */

typedef float v4 __attribute__((vector_size(16)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
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
#define KERNEL(name) CLONES void name(const struct job *job, int first, int last)

/* Everything a kernel may need of one level; midflow/native/library.py fills the same. Pictures are
   (height, width, 4), planes (n, height, width), estimates (height, width, 16): flow, logit, carried
   features. Elements are what convolutions read, channels last. */
struct job {
    int32_t height, width, previous_height, previous_width;
    int32_t encoder_width, features, matched, radius;
    int32_t x_channels, entrance_channels, merged_channels, spare;
    float ratio; /* size of this level over that of the previous estimate */
    float time, low, high;
    const float *source;
    float *picture0, *picture1;
    const void *features0, *features1;
    const float *previous;
    float *planes, *missed, *unit;
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

/* A coordinate inside [0, length - 1]; what is no number becomes 0. */
INLINE float inside(float place, int length) {
    place = place > 0 ? place : 0;
    return place < length - 1 ? place : length - 1;
}

/* The four pixels around a place, and how far it is from the first. */
struct place {
    int left, right, top, bottom;
    float across, down;
};

INLINE struct place place_at(const struct job *job, float x, float y) {
    x = inside(x, job->width);
    y = inside(y, job->height);
    struct place place;
    place.left = (int)x;
    place.top = (int)y;
    place.right = place.left + (place.left < job->width - 1);
    place.bottom = place.top + (place.top < job->height - 1);
    place.across = x - place.left;
    place.down = y - place.top;
    return place;
}

/* The two rows of the previous estimate around a row of this level. */
struct line {
    const float *top, *bottom;
    float down;
};

INLINE struct line line_at(const struct job *job, int row) {
    if (!job->previous) return (struct line){0};
    const float y = inside((row + 0.5f) / job->ratio - 0.5f, job->previous_height);
    const int top = (int)y, bottom = top + (top < job->previous_height - 1);
    const long stride = 16L * job->previous_width;
    return (struct line){job->previous + top * stride, job->previous + bottom * stride, y - top};
}

/* The previous estimate brought to this size (bilinear, areas aligned), flows in pixels of it. */
INLINE v16 state_at(const struct job *job, struct line line, int column) {
    const float x = inside((column + 0.5f) / job->ratio - 0.5f, job->previous_width);
    const int left = (int)x, right = left + (left < job->previous_width - 1);
    const float across = x - left, r = job->ratio;
    const v16 top = load16f(line.top + 16 * left), top_right = load16f(line.top + 16 * right);
    const v16 bottom = load16f(line.bottom + 16 * left);
    const v16 bottom_right = load16f(line.bottom + 16 * right);
    const v16 upper = top + across * (top_right - top);
    const v16 lower = bottom + across * (bottom_right - bottom);
    const v16 scale = {r, r, r, r, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    return (upper + line.down * (lower - upper)) * scale;
}

/* A share of the photometric step as flows from the time to both frames. */
INLINE v4 both_ways(const struct job *job, long i, long size, float share) {
    const float x = share * job->missed[i], y = share * job->missed[size + i];
    const float before = -job->time, after = 1 - job->time;
    return (v4){before * x, before * y, after * x, after * y};
}

/* 1 / (1 + exp(-x)), exp by its power of two and a polynomial (Cephes): 2e-7. */
INLINE float sigmoid(float x) {
    float z = fminf(fmaxf(-x, -80), 80);
    const float power = floorf(z * 1.44269504f + 0.5f);
    z = z - power * 0.693359375f + power * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * z + 1.3981999507e-3f;
    sum = sum * z + 8.3334519073e-3f;
    sum = sum * z + 4.1665795894e-2f;
    sum = sum * z + 1.6666665459e-1f;
    sum = sum * z + 5.0000001201e-1f;
    const uint32_t bits = (uint32_t)((int32_t)power + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return 1 / (1 + (sum * z * z + z + 1) * scale);
}

/* Weights of four neighbours for a place `t` beyond the second (Keys, 1981). */
INLINE v4 cubic(float t) {
    const v4 far = {t + 1, t, 1 - t, 2 - t};
    const v4 outer = ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC;
    const v4 inner = ((CUBIC + 2) * far - (CUBIC + 3)) * far * far + 1;
    return (v4){outer[0], inner[1], inner[2], outer[3]};
}

/* A picture between its pixels from 4 x 4 of them, the border repeated. */
INLINE v4 bicubic(const struct job *job, const float *picture, float x, float y) {
    /* beyond the border everything is the border: no further than any weight reaches */
    x = x > -4 ? x : -4;
    x = x < job->width + 3 ? x : job->width + 3;
    y = y > -4 ? y : -4;
    y = y < job->height + 3 ? y : job->height + 3;
    const int left = (int)floorf(x) - 1, top = (int)floorf(y) - 1;
    const v4 a = cubic(x - (left + 1)), b = cubic(y - (top + 1));
    const v16 along = {a[0], a[0], a[0], a[0], a[1], a[1], a[1], a[1],
                       a[2], a[2], a[2], a[2], a[3], a[3], a[3], a[3]};
    const long stride = 4L * job->width;
    v16 sum = {0};
    if (left >= 0 && top >= 0 && left + 3 < job->width && top + 3 < job->height) {
        const float *from = picture + top * stride + 4 * left;
        for (int k = 0; k < 4; k++) sum += b[k] * load16f(from + k * stride);
    } else {
        for (int k = 0; k < 4; k++) {
            const int row = top + k < 0 ? 0 : top + k < job->height ? top + k : job->height - 1;
            float pixels[16];
            for (int j = 0; j < 4; j++) {
                const int column = left + j < 0 ? 0 : left + j < job->width ? left + j : job->width - 1;
                memcpy(pixels + 4 * j, picture + row * stride + 4 * column, 16);
            }
            sum += b[k] * load16f(pixels);
        }
    }
    sum *= along;
    float parts[16];
    memcpy(parts, &sum, sizeof parts);
    return load4(parts) + load4(parts + 4) + load4(parts + 8) + load4(parts + 12);
}

/* Both pictures warped along the previous estimate, as planes: bilinear, the border repeated. */
KERNEL(warp_pictures) {
    const long size = (long)job->height * job->width, stride = 4L * job->width;
    for (int y = first; y < last; y++) {
        struct line line = line_at(job, y);
        for (int x = 0; x < job->width; x++) {
            const long i = (long)y * job->width + x;
            const v16 state = job->previous ? state_at(job, line, x) : (v16){0};
            for (int frame = 0; frame < 2; frame++) {
                const float *picture = frame ? job->picture1 : job->picture0;
                const struct place place =
                    place_at(job, x + state[2 * frame], y + state[2 * frame + 1]);
                const float *top = picture + place.top * stride, *bottom = picture + place.bottom * stride;
                const v4 a = load4(top + 4 * place.left), b = load4(top + 4 * place.right);
                const v4 c = load4(bottom + 4 * place.left), d = load4(bottom + 4 * place.right);
                const v4 upper = a + place.across * (b - a), lower = c + place.across * (d - c);
                const v4 read = upper + place.down * (lower - upper);
                for (int k = 0; k < 3; k++) job->planes[(3 * frame + k) * size + i] = read[k];
            }
        }
    }
}

/* Weights of the places i - 4 ... i + 4 in the mean over 5 places taken twice, of `count` there are. */
INLINE void window(int i, int count, float weights[2 * REACH + 1]) {
    memset(weights, 0, (2 * REACH + 1) * sizeof *weights);
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

/* Products of slopes and differences along one row, five planes of `width`, smoothed along it. */
INLINE void products(const struct job *job, int y, float *raw, float *smooth) {
    const int width = job->width;
    const long size = (long)job->height * width;
    const int up = y > 0 ? y - 1 : 0, down = y < job->height - 1 ? y + 1 : y;
    const float t = job->time;
    memset(raw, 0, 5 * width * sizeof *raw);
    float *restrict xx = raw, *restrict xy = raw + width, *restrict yy = raw + 2 * width;
    float *restrict xd = raw + 3 * width, *restrict yd = raw + 4 * width;
    float *restrict mean = raw + 5 * width + 1; /* and one more on either side */
    for (int color = 0; color < 3; color++) {
        const float *before = job->planes + color * size, *after = before + 3 * size;
        const float *b = before + (long)y * width, *a = after + (long)y * width;
        const float *bu = before + (long)up * width, *au = after + (long)up * width;
        const float *bd = before + (long)down * width, *ad = after + (long)down * width;
        for (int x = 0; x < width; x++) mean[x] = a[x] + t * (b[x] - a[x]);
        mean[-1] = mean[0];
        mean[width] = mean[width - 1];
        for (int x = 0; x < width; x++) {
            const float along = 0.5f * (mean[x + 1] - mean[x - 1]);
            const float across =
                0.5f * (ad[x] + t * (bd[x] - ad[x]) - (au[x] + t * (bu[x] - au[x])));
            const float difference = b[x] - a[x];
            xx[x] += along * along;
            xy[x] += along * across;
            yy[x] += across * across;
            xd[x] += along * difference;
            yd[x] += across * difference;
        }
    }
    for (int k = 0; k < 5; k++) {
        const float *restrict from = raw + k * width;
        float *restrict to = smooth + k * width;
        for (int x = REACH; x < width - REACH; x++)
            to[x] = (from[x - 4] + from[x + 4] + 2 * (from[x - 3] + from[x + 3])
                     + 3 * (from[x - 2] + from[x + 2]) + 4 * (from[x - 1] + from[x + 1]) + 5 * from[x]) / 25;
    }
    for (int x = 0; x < width; x++) {
        if (x == REACH && width - REACH > x) x = width - REACH;
        float weights[2 * REACH + 1];
        window(x, width, weights);
        for (int k = 0; k < 5; k++) {
            float sum = 0;
            for (int j = -REACH; j <= REACH; j++)
                if (x + j >= 0 && x + j < width) sum += weights[j + REACH] * raw[k * width + x + j];
            smooth[k * width + x] = sum;
        }
    }
}

/* One Gauss-Newton step of brightness constancy: see nets/photometric.py. */
KERNEL(photometric) {
    const int width = job->width, height = job->height, kept = 2 * REACH + 1;
    const long size = (long)height * width, row_size = 5L * width;
    float *rows = malloc(((kept + 2) * row_size + width + 2) * sizeof *rows);
    float *sums = rows + kept * row_size, *raw = sums + row_size;
    if (!rows) abort();
    int known = first - REACH < 0 ? 0 : first - REACH; /* the first row that is not in `rows` */
    for (int y = first; y < last; y++) {
        for (; known <= y + REACH && known < height; known++)
            products(job, known, raw, rows + known % kept * row_size);
        float weights[2 * REACH + 1];
        window(y, height, weights);
        memset(sums, 0, row_size * sizeof *sums);
        for (int k = -REACH; k <= REACH; k++) {
            if (y + k < 0 || y + k >= height) continue;
            const float *restrict from = rows + (y + k) % kept * row_size, weight = weights[k + REACH];
            for (long x = 0; x < row_size; x++) sums[x] += weight * from[x];
        }
        const float *xd = sums + 3 * width, *yd = sums + 4 * width;
        float *restrict step_x = job->missed + (long)y * width, *restrict step_y = step_x + size;
        for (int x = 0; x < width; x++) {
            const float xx = sums[x] + DAMPING, xy = sums[width + x], yy = sums[2 * width + x] + DAMPING;
            const float scale = 1 / (xx * yy - xy * xy);
            const float along = (yy * xd[x] - xy * yd[x]) * scale;
            const float across = (xx * yd[x] - xy * xd[x]) * scale;
            const float length = sqrtf(along * along + across * across);
            const float shorter = LONGEST / (length > LONGEST ? length : LONGEST);
            step_x[x] = along * shorter;
            step_y[x] = across * shorter;
        }
    }
    free(rows);
}

#define ELEMENT_IS_BFLOAT16 0
#include "elements.h"
#undef ELEMENT_IS_BFLOAT16
#define ELEMENT_IS_BFLOAT16 1
#include "elements.h"

typedef void kernel(const struct job *, int, int);

/* In the order of library.py's list; those that touch elements once for each type. */
static kernel *const KERNELS[] = {
    warp_pictures, photometric,
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
        work.each = rows / (4 * threads) + 1;
        gomp(share, &work, threads, 0);
    } else {
        share(&work);
    }
}

int midflow_job_size(void) { return sizeof(struct job); }

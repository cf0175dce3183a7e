/* Still overlays: what midflow/overlay.py says of two frames, in passes over their rows. */

#include "vectors.h"

#define LANES 16
#define TILE 256       /* columns at a time */
#define MOST_REACH 4
#define CELL_BITS 3    /* a cell is of 8 x 8 pixels */

/* midflow/native/overlay.py fills the same. Pictures are planes of (height, width). */
struct overlay {
    int32_t height, width, reach, company_reach;
    float edge, aligned, noise, share, loudest, company, soft, led_away; /* edge, led_away: squares */
    const float *img0, *img1; /* three planes each */
    float *slope, *still;
    uint8_t *has_edges; /* of each row */
    uint8_t *lies, *near, *kept; /* lies: 1 of a still pixel, 2 of one on a still edge */
    const float *cover, *flow; /* one plane, and four */
    float *carried;            /* two planes */
    uint8_t *cells;
};

#define JOB struct overlay

INLINE int greater(int a, int b) { return a > b ? a : b; }

/* `count` values of windows from column x on, `reach` around the pixel along both sides; what lies
   beyond the picture is 0. */
#define WINDOWS(name, type, JOIN)                                                          \
    INLINE void name(const JOB *job, const type *plane, int reach, int y, int x, int count, type *to) { \
        type down[TILE + 2 * MOST_REACH] = {0};                                            \
        const int first = greater(0, x - reach), last = smaller(job->width, x + count + reach); \
        const int end = smaller(job->height, y + reach + 1);                               \
        for (int row = greater(0, y - reach); row < end; row++) {                          \
            const type *from = plane + (ptrdiff_t)row * job->width;                        \
            type *sums = down + reach - x;                                                 \
            for (int k = first; k < last; k++) sums[k] = JOIN(sums[k], from[k]);           \
        }                                                                                  \
        memcpy(to, down, count * sizeof *to);                                              \
        for (int k = 1; k <= 2 * reach; k++)                                               \
            for (int j = 0; j < count; j++) to[j] = JOIN(to[j], down[j + k]);              \
    }
#define MORE(a, b) ((a) > (b) ? (a) : (b))
#define SUM(a, b) ((a) + (b))
WINDOWS(largest_float, float, MORE)
WINDOWS(largest_byte, uint8_t, MORE)
WINDOWS(sum_bytes, uint8_t, SUM)

/* How many pixels of a window along one side lie in the picture. */
INLINE int within(int place, int reach, int length) {
    return smaller(length - 1, place + reach) - greater(0, place - reach) + 1;
}

/* Whether nothing is protected in a row or beside it: no still edge is near. */
INLINE int is_quiet(const JOB *job, int y) {
    const int end = smaller(job->height, y + job->reach + 2);
    for (int row = greater(0, y - job->reach - 1); row < end; row++)
        if (job->has_edges[row]) return 0;
    return 1;
}

/* A pass over the planes: `count` pixels from `i` on, which are at (x, y), of plane f. Rows without still
   edges near are 0. */
#define PASS(f)                                                                            \
    INLINE void f##_tile(const JOB *job, int x, int y, ptrdiff_t i, int count);            \
    INLINE void f##_rows(const JOB *job, int first, int last) {                            \
        for (int y = first; y < last; y++) {                                               \
            const ptrdiff_t row = (ptrdiff_t)y * job->width;                               \
            if (is_quiet(job, y)) memset(job->f + row, 0, job->width * sizeof *job->f); \
            else                                                                           \
                for (int x = 0; x < job->width; x += TILE)                                 \
                    f##_tile(job, x, y, row + x, smaller(TILE, job->width - x));           \
        }                                                                                  \
    }                                                                                      \
    INLINE void f##_tile(const JOB *job, int x, int y, ptrdiff_t i, int count)

/* Lumas of `count` pixels from column x on, and of one on either side; the border is repeated. */
INLINE void luma(const JOB *job, const float *image, int y, int x, int count, float *to) {
    const ptrdiff_t size = (ptrdiff_t)job->height * job->width;
    const float *row = image + (ptrdiff_t)(y < 0 ? 0 : smaller(y, job->height - 1)) * job->width + x;
    for (int k = 0; k < count; k++) to[k + 1] = (row[k] + row[size + k] + row[2 * size + k]) / 3;
    const int before = x ? -1 : 0, after = x + count < job->width ? count : count - 1;
    to[0] = (row[before] + row[size + before] + row[2 * size + before]) / 3;
    to[count + 1] = (row[after] + row[size + after] + row[2 * size + after]) / 3;
}

INLINE void slope_rows(const JOB *job, int first, int last) {
    for (int y = first; y < last; y++) {
        float most = 0;
        for (int x = 0; x < job->width; x += TILE) {
            const int count = smaller(TILE, job->width - x);
            float *slope = job->slope + (ptrdiff_t)y * job->width + x, lines[2][3][TILE + 2];
            for (int k = 0; k < 6; k++)
                luma(job, k < 3 ? job->img0 : job->img1, y + k % 3 - 1, x, count, lines[k / 3][k % 3]);
            for (int k = 0; k < count; k++) {
                const float x0 = lines[0][1][k + 2] - lines[0][1][k], y0 = lines[0][2][k + 1] - lines[0][0][k + 1];
                const float x1 = lines[1][1][k + 2] - lines[1][1][k], y1 = lines[1][2][k + 1] - lines[1][0][k + 1];
                const float both = x0 * x1 + y0 * y1, lengths = (x0 * x0 + y0 * y0) * (x1 * x1 + y1 * y1);
                const float limit = MORE(job->edge, job->aligned * sqrtf(lengths));
                slope[k] = both > limit ? sqrtf(MORE(both, 0)) : 0;
                most = MORE(most, slope[k]);
            }
        }
        job->has_edges[y] = most > 0;
    }
}

PASS(lies) {
    const ptrdiff_t size = (ptrdiff_t)job->height * job->width;
    float steepest[TILE];
    largest_float(job, job->slope, job->reach, y, x, count, steepest);
    for (int k = 0; k < count; k++) {
        const float *a = job->img0 + i + k, *b = job->img1 + i + k;
        const float change = MORE(MORE(fabsf(*a - *b), fabsf(a[size] - b[size])), fabsf(a[2 * size] - b[2 * size]));
        const float least = MORE(job->share * steepest[k], job->noise);
        const float allowed = least < job->loudest ? least : job->loudest;
        const int is_still = change <= allowed;
        job->lies[i + k] = is_still << (job->slope[i + k] > 0);
    }
}

PASS(near) {
    uint8_t around[TILE];
    largest_byte(job, job->lies, job->reach, y, x, count, around);
    for (int k = 0; k < count; k++) job->near[i + k] = (around[k] == 2) & (job->lies[i + k] > 0);
}

PASS(kept) {
    const int reach = job->company_reach, high = within(y, reach, job->height);
    uint8_t around[TILE];
    sum_bytes(job, job->near, reach, y, x, count, around);
    for (int k = 0; k < count; k++) {
        const float share = (float)around[k] / (high * within(x + k, reach, job->width));
        job->kept[i + k] = job->near[i + k] & (share > job->company);
    }
}

PASS(still) {
    const int high = within(y, 1, job->height);
    uint8_t around[TILE];
    sum_bytes(job, job->kept, 1, y, x, count, around);
    for (int k = 0; k < count; k++) {
        const float share = (float)around[k] / (high * within(x + k, 1, job->width));
        job->still[i + k] = job->kept[i + k] ? 1 : job->soft * share;
    }
}

INLINE int cells_across(const JOB *job) { return (job->width >> CELL_BITS) + 1; }

/* Rows of cells: whether something is covered in one, or in the row or column behind it. */
INLINE void cells_rows(const JOB *job, int first, int last) {
    const int side = 1 << CELL_BITS, across = cells_across(job);
    for (int row = first; row < last; row++) {
        memset(job->cells + (ptrdiff_t)row * across, 0, across);
        const int end = smaller(job->height, (row + 1) * side + 1);
        for (int y = row * side; y < end; y++)
            for (int cell = 0; cell < across; cell++) {
                const float *cover = job->cover + (ptrdiff_t)y * job->width + cell * side;
                const int count = smaller(side + 1, job->width - cell * side);
                int found = 0;
                for (int k = 0; k < count; k++) found |= cover[k] > 0;
                job->cells[(ptrdiff_t)row * across + cell] |= found;
            }
    }
}

INLINE float cover_at(const JOB *job, int left, int top, float across, float down) {
    const float *from = job->cover + (ptrdiff_t)top * job->width + left;
    const int right = left < job->width - 1;
    const ptrdiff_t below = top < job->height - 1 ? job->width : 0;
    const float upper = from[0] + across * (from[right] - from[0]);
    const float lower = from[below] + across * (from[below + right] - from[below]);
    return upper + down * (lower - upper);
}

INLINE void carried_rows(const JOB *job, int first, int last) {
    const ptrdiff_t size = (ptrdiff_t)job->height * job->width;
    for (int y = first; y < last; y++)
        for (int x = 0; x < job->width; x += LANES) {
            const int count = smaller(LANES, job->width - x);
            const ptrdiff_t start = (ptrdiff_t)y * job->width + x;
            for (int way = 0; way < 2; way++) {
                v16 flow[2] = {{0}}, place[2];
                i16x whole[2];
                float found[LANES] = {0};
                for (int k = 0; k < 2; k++) {
                    memcpy(flow + k, job->flow + (2 * way + k) * size + start, count * sizeof(float));
                    for (int lane = 0; lane < LANES; lane++) place[k][lane] = k ? y : x + lane;
                    place[k] = v16_greatest(place[k] + flow[k], (v16){0});
                    const float end = (k ? job->height : job->width) - 1;
                    place[k] = v16_least(place[k], (v16){0} + end);
                    whole[k] = __builtin_convertvector(place[k], i16x);
                    place[k] -= __builtin_convertvector(whole[k], v16);
                }
                const i16x is_led = flow[0] * flow[0] + flow[1] * flow[1] > job->led_away;
                const i16x cells = (whole[1] >> CELL_BITS) * cells_across(job) + (whole[0] >> CELL_BITS);
                for (int lane = 0; lane < count; lane++)
                    if (is_led[lane] && job->cells[cells[lane]])
                        found[lane] = cover_at(job, whole[0][lane], whole[1][lane], place[0][lane], place[1][lane])
                                    * (1 - job->cover[start + lane]);
                memcpy(job->carried + way * size + start, found, count * sizeof *found);
            }
        }
}

typedef void pass(const struct overlay *, int, int);

EACH_PROCESSOR(COPY, slope)
EACH_PROCESSOR(COPY, lies)
EACH_PROCESSOR(COPY, near)
EACH_PROCESSOR(COPY, kept)
EACH_PROCESSOR(COPY, still)
EACH_PROCESSOR(COPY, cells)
EACH_PROCESSOR(COPY, carried)

struct passing {
    const JOB *job;
    pass *pass;
};

static void run_pass(const void *work, int first, int last, int thread) {
    const struct passing *passing = work;
    (void)thread;
    passing->pass(passing->job, first, last);
}

static void run_passes(const JOB *job, pass *const (*passes)[PROCESSORS], int count, int rows,
                       int threads) {
    for (int k = 0; k < count; k++) {
        const struct passing passing = {job, passes[k][smaller(midflow_processor(), PROCESSORS - 1)]};
        midflow_share(run_pass, &passing, rows, greater(16, rows / (4 * threads)), threads);
    }
}

/* Fills job->still. */
void midflow_find_still(const JOB *job, int threads) {
    static pass *const passes[][PROCESSORS] = {
        COPIES_OF(slope), COPIES_OF(lies), COPIES_OF(near), COPIES_OF(kept), COPIES_OF(still)};
    run_passes(job, passes, 5, job->height, threads);
}

/* Fills job->carried. */
void midflow_find_carried(const JOB *job, int threads) {
    static pass *const cells[][PROCESSORS] = {COPIES_OF(cells)}, *const carried[][PROCESSORS] = {COPIES_OF(carried)};
    run_passes(job, cells, 1, (job->height >> CELL_BITS) + 1, threads);
    run_passes(job, carried, 1, job->height, threads);
}

int midflow_overlay_size(void) { return sizeof(struct overlay); }

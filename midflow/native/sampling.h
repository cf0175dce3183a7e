/* Reading pictures and estimates between their pixels. */

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
INLINE v4 color_at(const float *lines, ptrdiff_t stride, int x) {
    return (v4){lines[x], lines[stride + x], lines[2 * stride + x]};
}

INLINE float inside(float place, int length) {
    place = place > 0 ? place : 0;
    return place < length - 1 ? place : length - 1;
}

/* Where a flow points to in both pictures, {x0, y0, x1, y1}, inside of them: the pixel before, which has
   one behind it unless there is only one, and how far beyond it. */
struct places {
    i4 whole;
    v4 rest;
};

INLINE struct places places_at(const struct job *job, int column, int row, v4 flow) {
    const float right = job->width - 1, bottom = job->height - 1;
    v4 place = (v4){column, row, column, row} + flow;
    place = v4_least(v4_greatest(place, (v4){0}), (v4){right, bottom, right, bottom});
    const float before = right > 1 ? right - 1 : 0, above = bottom > 1 ? bottom - 1 : 0;
    const i4 whole = __builtin_convertvector(v4_least(place, (v4){before, above, before, above}), i4);
    return (struct places){whole, place - __builtin_convertvector(whole, v4)};
}

/* The two rows around a row of this size of something `ratio` times coarser: bilinear, areas aligned. */
struct between {
    int top, bottom;
    float down;
};

INLINE struct between between_rows(const struct job *job, int row) {
    const float y = inside((row + 0.5f) * (1 / job->ratio) - 0.5f, job->previous_height);
    const int top = (int)y;
    return (struct between){top, smaller(top + 1, job->previous_height - 1), y - top};
}

/* Something coarser brought to this size, column by column along a row: in equal steps from one of its
   columns to the next. LINE knows two of its rows, their `ratio`, the `last` column (-1: there is none,
   and nothing is found), and `at(line, column)` is between both. `begin_NAME` and then, for each column,
   `next_NAME`. */
#define WALK(name, vector, line, at) WALK_OF(name, vector, line, at)
#define WALK_OF(name, vector, LINE, at)                                                    \
    struct name {                                                                          \
        LINE line;                                                                         \
        int left, column, until;                                                           \
        vector there, step, now;                                                           \
    };                                                                                     \
    INLINE struct name begin_##name(LINE line) {                                           \
        struct name walk = {line, -2};                                                     \
        if (line.last < 0) walk.until = INT32_MAX;                                         \
        return walk;                                                                       \
    }                                                                                      \
    INLINE void turn_##name(struct name *walk) {                                           \
        const float step = 1 / walk->line.ratio, place = (walk->column + 0.5f) * step - 0.5f; \
        const int left = place < 0 ? -1 : smaller((int)place, walk->line.last);            \
        const vector there = at(&walk->line, smaller(left + 1, walk->line.last));          \
        const vector here = left < 0 ? there                                               \
                          : left == walk->left + 1 ? walk->there : at(&walk->line, left);  \
        const float until = (left + 1.5f) * walk->line.ratio - 0.5f;                       \
        walk->until = left < walk->line.last ? (int)until + ((int)until < until) : INT32_MAX; \
        walk->step = (there - here) * step;                                                \
        walk->now = here + (place - left) * (there - here);                                \
        walk->there = there;                                                               \
        walk->left = left;                                                                 \
    }                                                                                      \
    INLINE vector next_##name(struct name *walk) {                                         \
        if (walk->column < walk->until) walk->now += walk->step;                           \
        else turn_##name(walk);                                                            \
        walk->column++;                                                                    \
        return walk->now;                                                                  \
    }

/* The two rows of the previous estimate around a row of this level. */
struct line {
    const float *top, *bottom;
    float down, ratio;
    int last;
};

INLINE struct line line_at(const struct job *job, int row) {
    if (!job->previous) return (struct line){.last = -1};
    const struct between rows = between_rows(job, row);
    const ptrdiff_t stride = (ptrdiff_t)16 * job->previous_width;
    return (struct line){job->previous + rows.top * stride, job->previous + rows.bottom * stride, rows.down,
                         job->ratio, job->previous_width - 1};
}

/* The previous estimate, or its first channels, at this size; flows in pixels of it. */
#define ESTIMATE(name, vector, load, ...)                                                  \
    INLINE vector name##_between(const struct line *line, int column) {                    \
        const float r = line->ratio;                                                       \
        const vector top = load(line->top + 16 * column), bottom = load(line->bottom + 16 * column); \
        return (top + line->down * (bottom - top)) * (vector){__VA_ARGS__};                \
    }                                                                                      \
    WALK(name, vector, struct line, name##_between)
ESTIMATE(state, v16, load16f, r, r, r, r, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
ESTIMATE(level, v8, load8f, r, r, r, r, 1, 1, 1, 1) /* flow and logit */
ESTIMATE(flow, v4, load4, r, r, r, r)

/* A share of the photometric step as flows from the time to both frames. */
INLINE v4 both_ways(const struct job *job, ptrdiff_t i, ptrdiff_t size, float share) {
    const float x = share * job->missed[i], y = share * job->missed[size + i];
    const float before = -job->time, after = 1 - job->time;
    return (v4){before * x, before * y, after * x, after * y};
}

/* exp(x), by its power of two and a polynomial (Cephes): 2e-7. */
INLINE v16 exponential(v16 x) {
    const v16 most = (v16){0} + 80;
    v16 z = v16_least(v16_greatest(x, -most), most);
    const i16x power = __builtin_convertvector(z * 1.44269504f + 128.5f, i16x) - 128;
    const v16 whole = __builtin_convertvector(power, v16);
    z = z - whole * 0.693359375f + whole * 2.12194440e-4f;
    v16 sum = z * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * z + 8.3334519073e-3f;
    sum = sum * z + 4.1665795894e-2f;
    sum = sum * z + 1.6666665459e-1f;
    sum = sum * z + 5.0000001201e-1f;
    return (sum * z * z + z + 1) * (v16)((power + 127) << 23);
}

INLINE v16 sigmoid(v16 x) { return 1 / (1 + exponential(-x)); }

/* Flow and logit of LANES pixels, and where the flow points to: whole parts and rests. Coordinates
   are x and y in frame 0, x and y in frame 1. */
struct block {
    float level[LANES][8];
    int32_t whole[4][LANES];
    float rest[4][LANES];
};

/* 16 rows of four floats, `stride` floats from one to the next, as four columns. */
INLINE void turned(const float *rows, ptrdiff_t stride, v16 columns[4]) {
    v4 parts[4][4];
    for (int q = 0; q < 4; q++, rows += 4 * stride) {
        const v4 a = load4(rows), b = load4(rows + stride);
        const v4 c = load4(rows + 2 * stride), d = load4(rows + 3 * stride);
        const v4 ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const v4 cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        parts[0][q] = __builtin_shufflevector(ab01, cd01, 0, 1, 4, 5);
        parts[1][q] = __builtin_shufflevector(ab01, cd01, 2, 3, 6, 7);
        parts[2][q] = __builtin_shufflevector(ab23, cd23, 0, 1, 4, 5);
        parts[3][q] = __builtin_shufflevector(ab23, cd23, 2, 3, 6, 7);
    }
    for (int k = 0; k < 4; k++)
        columns[k] = __builtin_shufflevector(joined(parts[k][0], parts[k][1]), joined(parts[k][2], parts[k][3]),
                                             0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* What follows from block->level: places no further than `beyond` outside of the pictures. Where that is
   nowhere, the pixel before has one behind it, unless there is only one. */
INLINE void point(const struct job *job, struct block *block, int column, int row, float beyond) {
    const v16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    v16 flows[4];
    turned(block->level[0], 8, flows);
    for (int k = 0; k < 4; k++) {
        const float last = (k % 2 ? job->height : job->width) - 1 + beyond;
        v16 place = flows[k] + (k % 2 ? (v16){0} + (float)row : lanes + (float)column);
        place = v16_least(v16_greatest(place, (v16){0} - beyond), (v16){0} + last);
        const float before = beyond > 0 ? last : last > 1 ? last - 1 : 0;
        /* down: all are above -8 */
        const i16x whole = __builtin_convertvector(v16_least(place, (v16){0} + before) + 8, i16x) - 8;
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
    const ptrdiff_t stride = (ptrdiff_t)4 * job->width;
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
    const float *from = picture + (ptrdiff_t)4 * (top * (ptrdiff_t)job->width + left);
    const ptrdiff_t right = job->width > 1 ? 4 : 0;
    const ptrdiff_t below = job->height > 1 ? (ptrdiff_t)4 * job->width : 0;
    const v4 a = load4(from), b = load4(from + right);
    const v4 c = load4(from + below), d = load4(from + below + right);
    const v4 upper = a + block->rest[axis][lane] * (b - a), lower = c + block->rest[axis][lane] * (d - c);
    return upper + block->rest[axis + 1][lane] * (lower - upper);
}

/* The same of eight floats a pixel. */
INLINE v8 bilinear8(const struct job *job, const float *frame, struct places places, int axis) {
    const int left = places.whole[axis], top = places.whole[axis + 1];
    const float *from = frame + (ptrdiff_t)8 * (top * (ptrdiff_t)job->width + left);
    const ptrdiff_t right = job->width > 1 ? 8 : 0;
    const ptrdiff_t below = job->height > 1 ? (ptrdiff_t)8 * job->width : 0;
    const v8 a = load8f(from), c = load8f(from + below);
    const v8 upper = a + places.rest[axis] * (load8f(from + right) - a);
    const v8 lower = c + places.rest[axis] * (load8f(from + below + right) - c);
    return upper + places.rest[axis + 1] * (lower - upper);
}

/* Where in a row of an IFNet's head a column lies: 16 channels for each of 2 x 2 pixels. */
INLINE ptrdiff_t head_offset(int column) { return 16 * (4 * (ptrdiff_t)(column / 2) + column % 2); }

/* What a head found, flow and logit, added to the flow that was before. */
INLINE v4 flow_so_far(const struct job *job, ptrdiff_t i, v8 found) {
    const v4 flow = job->ratio * __builtin_shufflevector(found, found, 0, 1, 2, 3);
    return job->source ? flow + load4(job->source + i) : flow;
}

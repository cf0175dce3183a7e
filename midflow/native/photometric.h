/* The photometric step of nets/photometric.py, row by row, from pictures warped as it goes. */

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
    ptrdiff_t stride;
    int next;        /* the first row whose products are not known */
    int next_warped; /* likewise warped pictures */
    float *warped;   /* WARPED_ROWS of six lines */
    float *smooth;   /* KEPT of five */
    float *raw, *mean;
};

INLINE struct rows rows_from(const struct job *job, int first) {
    const ptrdiff_t stride = (job->width + LANES - 1) / LANES * LANES + 2 * LANES;
    const ptrdiff_t count = (6 * WARPED_ROWS + 5 * (KEPT + 1) + 1) * stride + LANES;
    float *memory = calloc(count, sizeof *memory);
    struct rows rows = {.stride = stride, .warped = memory};
    if (!memory) {
        __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
        return rows;
    }
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
    const ptrdiff_t stride = rows->stride;
    struct flow flows = begin_flow(line_at(job, y));
    float *to = warped_row(rows, y);
    for (int x = 0; x < job->width; x += LANES, to += LANES) {
        struct block block = {{{0}}};
        if (job->previous)
            for (int lane = 0; lane < LANES; lane++) {
                const v4 flow = next_flow(&flows);
                memcpy(block.level[lane], &flow, sizeof flow);
            }
        point(job, &block, x, y, 0);
        float colors[2][LANES][4];
        for (int lane = 0; lane < LANES; lane++) {
            const v4 read0 = bilinear(job, job->picture0, &block, 0, lane);
            const v4 read1 = bilinear(job, job->picture1, &block, 2, lane);
            memcpy(colors[0][lane], &read0, sizeof read0);
            memcpy(colors[1][lane], &read1, sizeof read1);
        }
        for (int frame = 0; frame < 2; frame++) {
            v16 planes[4];
            turned(colors[frame][0], 4, planes);
            for (int k = 0; k < 3; k++) store16f(to + (3 * frame + k) * stride, planes[k]);
        }
    }
}

/* Products of slopes and differences along one row, five lines, smoothed along it. */
INLINE void products(const struct job *job, const struct rows *rows, int y) {
    const int width = job->width;
    const ptrdiff_t stride = rows->stride;
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
    float *step_x = job->missed + (ptrdiff_t)y * width, *step_y = step_x + (ptrdiff_t)height * width;
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


/* What lies between the convolutions of an IFNet (4.22.lite, 4.25, 4.26), for one type of elements.

   A frame is eight floats a pixel: colours, then the features of its encoder. A block's head is what
   `update` reads: for each of 2 x 2 pixels flow, logit, carried features in 16 channels. */

/* Colours beside what the encoder put out, eight elements a pixel of which the first three are free. */
KERNEL(work) {
    const ptrdiff_t plane = (ptrdiff_t)job->height * job->width;
    for (ptrdiff_t i = (ptrdiff_t)first * job->width; i < (ptrdiff_t)last * job->width; i++) {
        const v8 color = {job->source[i], job->source[plane + i], job->source[2 * plane + i]};
        const v8 pixel = NAME(load8)((const ELEMENT *)job->x + 8 * i) + color;
        memcpy(job->picture0 + 8 * i, &pixel, sizeof pixel);
    }
}

/* The two rows of a head that is `ratio` times coarser around a row: bilinear, areas aligned. */
struct NAME(heads) {
    const ELEMENT *top, *bottom;
    float down, step;
    int last;
};

INLINE const ELEMENT *NAME(head_row)(const struct job *job, int row) {
    return (const ELEMENT *)job->out + 16 * (4 * (ptrdiff_t)(row / 2) * (job->previous_width / 2) + row % 2 * 2);
}

INLINE struct NAME(heads) NAME(heads_at)(const struct job *job, int row) {
    const float step = 1 / job->ratio;
    const float y = inside((row + 0.5f) * step - 0.5f, job->previous_height);
    const int top = (int)y, bottom = top + (top < job->previous_height - 1);
    return (struct NAME(heads)){NAME(head_row)(job, top), NAME(head_row)(job, bottom), y - top, step,
                                job->previous_width - 1};
}

/* A head at a column of the finer size. */
INLINE v8 NAME(head_at)(struct NAME(heads) heads, int column) {
    if (heads.step == 1) return NAME(load8)(heads.top + head_offset(column));
    const float x = inside((column + 0.5f) * heads.step - 0.5f, heads.last + 1);
    const int left = (int)x;
    const ptrdiff_t here = head_offset(left), next = head_offset(smaller(left + 1, heads.last));
    const v8 a = NAME(load8)(heads.top + here), c = NAME(load8)(heads.bottom + here);
    const v8 upper = a + (x - left) * (NAME(load8)(heads.top + next) - a);
    const v8 lower = c + (x - left) * (NAME(load8)(heads.bottom + next) - c);
    return upper + heads.down * (lower - upper);
}

/* A head at one of its own columns, between its two rows; nothing where there is none. */
INLINE v16 NAME(between16)(struct NAME(heads) heads, int column) {
    if (heads.last < 0) return (v16){0};
    const ptrdiff_t at = head_offset(smaller(column, heads.last));
    const v16 top = NAME(load16)(heads.top + at);
    return top + heads.down * (NAME(load16)(heads.bottom + at) - top);
}

INLINE v4 NAME(between4)(struct NAME(heads) heads, int column) {
    const ptrdiff_t at = head_offset(smaller(column, heads.last));
    const v8 top = NAME(load8)(heads.top + at);
    const v8 found = top + heads.down * (NAME(load8)(heads.bottom + at) - top);
    return __builtin_shufflevector(found, found, 0, 1, 2, 3);
}

/* A row of what `block_inputs` makes; `each` is known to the compiler. */
INLINE void NAME(block_row)(const struct job *job, int y, const int each) {
    const int grid = job->grid, width = job->width / grid, skipped = each > 1 ? grid / 2 - 1 : 0;
    const int ratio = job->state ? (int)job->ratio : 1;
    const float share = 1.0f / (each * each);
    struct NAME(heads) heads = {.last = -1};
    if (job->state) heads = NAME(heads_at)(job, y);
    ELEMENT *to = (ELEMENT *)job->x + (ptrdiff_t)y * width * 32;
    v16 here = NAME(between16)(heads, 0);
    for (int column = 0, x = 0; column <= heads.last + 1; column++) {
        const v16 there = NAME(between16)(heads, column), step = (there - here) * (1.0f / ratio);
        const int until = until_column(column, heads.last, ratio, width);
        for (v16 known = here + begin_of(ratio) * step; x < until; x++, known += step, to += 32) {
            v8 frame0 = {0}, frame1 = {0};
            v4 motion = {0};
#pragma GCC unroll 4
            for (int part = 0; part < each * each; part++) {
                const int row = y * grid + skipped + part / each, place = x * grid + skipped + part % each;
                const v4 flow = job->state ? load4(job->state + 4 * ((ptrdiff_t)row * job->width + place))
                                           : (v4){0};
                const struct places places = places_at(job, place, row, flow);
                frame0 += bilinear8(job, job->picture0, places, 0);
                frame1 += bilinear8(job, job->picture1, places, 2);
                motion += flow;
            }
            motion *= share / grid;
            v16 all = known;
            for (int k = 0; k < 4; k++) all[k] = motion[k];
            all[13] = job->time;
            NAME(store8)(to, frame0 * share);
            NAME(store8)(to + 8, frame1 * share);
            NAME(store16)(to + 16, all);
        }
        here = there;
    }
}

/* What a block at `grid` reads: both frames warped and reduced by the mean of the 2 x 2 pixels in the
   middle of each cell (nets/warp.py), then flow, logit, carried features, time. Rows are of the grid. */
KERNEL(block_inputs) {
    for (int y = first; y < last; y++)
        if (job->grid > 1) NAME(block_row)(job, y, 2);
        else NAME(block_row)(job, y, 1);
}

/* Adds the flow of a head to that at full size, of which `source` is what was before. */
KERNEL(add_flow) {
    const int ratio = (int)job->ratio, width = job->width;
    for (int y = first; y < last; y++) {
        const struct NAME(heads) heads = NAME(heads_at)(job, y);
        float *to = job->state + 4 * (ptrdiff_t)y * width;
        const float *from = job->source ? job->source + 4 * (ptrdiff_t)y * width : 0;
        v4 here = job->ratio * NAME(between4)(heads, 0);
        for (int column = 0, x = 0; column <= heads.last + 1; column++) {
            const v4 there = job->ratio * NAME(between4)(heads, column), step = (there - here) * (1.0f / ratio);
            const int until = until_column(column, heads.last, ratio, width);
            for (v4 flow = here + begin_of(ratio) * step; x < until; x++, flow += step) {
                const v4 sum = from ? flow + load4(from + 4 * x) : flow;
                memcpy(to + 4 * x, &sum, sizeof sum);
            }
            here = there;
        }
    }
}

/* Adds the last head's flow, reads both frames along it, and mixes them by that head's logit. */
KERNEL(mix_frames) {
    const int width = job->width;
    const ptrdiff_t size = (ptrdiff_t)job->height * width;
    for (int y = first; y < last; y++) {
        const struct NAME(heads) heads = NAME(heads_at)(job, y);
        for (int x = 0; x < width; x += LANES) {
            const int count = width - x < LANES ? width - x : LANES;
            const ptrdiff_t start = (ptrdiff_t)y * width + x;
            v16 logits = {0};
            v4 flows[LANES];
            float weights[LANES];
            for (int lane = 0; lane < count; lane++) {
                const v8 found = NAME(head_at)(heads, x + lane);
                flows[lane] = job->ratio * __builtin_shufflevector(found, found, 0, 1, 2, 3);
                if (job->source) flows[lane] += load4(job->source + 4 * (start + lane));
                logits[lane] = found[4];
            }
            store16f(weights, sigmoid(logits));
            for (int lane = 0; lane < count; lane++) {
                const ptrdiff_t i = start + lane;
                const v4 flow = flows[lane];
                const struct places places = places_at(job, x + lane, y, flow);
                const v8 frame0 = bilinear8(job, job->picture0, places, 0);
                const v8 frame1 = bilinear8(job, job->picture1, places, 2);
                const v8 mixed = frame1 + weights[lane] * (frame0 - frame1);
                for (int k = 0; k < 3; k++) job->frame[k * size + i] = mixed[k];
                if (!job->flow) continue;
                for (int k = 0; k < 4; k++) job->flow[k * size + i] = flow[k];
                job->weight[i] = weights[lane];
            }
        }
    }
}

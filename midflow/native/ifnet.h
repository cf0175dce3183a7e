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

/* The two rows around a row of the finer size of a block's head. */
struct NAME(heads) {
    const ELEMENT *top, *bottom;
    float down, ratio;
    int last;
};

INLINE const ELEMENT *NAME(head_row)(const struct job *job, int row) {
    return (const ELEMENT *)job->out + 16 * (4 * (ptrdiff_t)(row / 2) * (job->previous_width / 2) + row % 2 * 2);
}

INLINE struct NAME(heads) NAME(heads_at)(const struct job *job, int row) {
    if (!job->out) return (struct NAME(heads)){.last = -1};
    const struct between rows = between_rows(job, row);
    return (struct NAME(heads)){NAME(head_row)(job, rows.top), NAME(head_row)(job, rows.bottom), rows.down,
                                job->ratio, job->previous_width - 1};
}

#define HEAD(name, vector, load)                                                           \
    INLINE vector NAME(between_##name)(const struct NAME(heads) *heads, int column) {      \
        const ptrdiff_t at = head_offset(column);                                          \
        const vector top = NAME(load)(heads->top + at);                                    \
        return top + heads->down * (NAME(load)(heads->bottom + at) - top);                 \
    }                                                                                      \
    WALK(NAME(name), vector, struct NAME(heads), NAME(between_##name))
HEAD(head, v16, load16)
HEAD(motion, v8, load8) /* flow and logit */
#undef HEAD

/* A row of what `block_inputs` makes; `each` is known to the compiler. */
INLINE void NAME(block_row)(const struct job *job, int y, const int each) {
    const int grid = job->grid, width = job->width / grid, skipped = each > 1 ? grid / 2 - 1 : 0;
    const float share = 1.0f / (each * each);
    struct NAME(head) heads = NAME(begin_head)(NAME(heads_at)(job, y));
    ELEMENT *to = (ELEMENT *)job->x + (ptrdiff_t)y * width * 32;
    for (int x = 0; x < width; x++, to += 32) {
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
        v16 known = NAME(next_head)(&heads);
        for (int k = 0; k < 4; k++) known[k] = motion[k];
        known[13] = job->time;
        NAME(store8)(to, frame0 * share);
        NAME(store8)(to + 8, frame1 * share);
        NAME(store16)(to + 16, known);
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
    for (int y = first; y < last; y++) {
        struct NAME(motion) motions = NAME(begin_motion)(NAME(heads_at)(job, y));
        for (int x = 0; x < job->width; x++) {
            const ptrdiff_t i = 4 * ((ptrdiff_t)y * job->width + x);
            const v4 flow = flow_so_far(job, i, NAME(next_motion)(&motions));
            memcpy(job->state + i, &flow, sizeof flow);
        }
    }
}

/* Adds the last head's flow, reads both frames along it, and mixes them by that head's logit. */
KERNEL(mix_frames) {
    const int width = job->width;
    const ptrdiff_t size = (ptrdiff_t)job->height * width;
    for (int y = first; y < last; y++) {
        struct NAME(motion) motions = NAME(begin_motion)(NAME(heads_at)(job, y));
        for (int x = 0; x < width; x += LANES) {
            const int count = width - x < LANES ? width - x : LANES;
            const ptrdiff_t start = (ptrdiff_t)y * width + x;
            v16 logits = {0};
            v4 flows[LANES];
            float weights[LANES];
            for (int lane = 0; lane < count; lane++) {
                const v8 found = NAME(next_motion)(&motions);
                flows[lane] = flow_so_far(job, 4 * (start + lane), found);
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

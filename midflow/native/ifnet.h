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

INLINE const ELEMENT *NAME(head_at)(const struct job *job, int row, int column) {
    const ptrdiff_t cell = (ptrdiff_t)(row / 2) * (job->previous_width / 2) + column / 2;
    return (const ELEMENT *)job->out + 16 * (4 * cell + row % 2 * 2 + column % 2);
}

/* Where to read a head that is `ratio` times coarser: bilinear, areas aligned. */
struct NAME(head) {
    const ELEMENT *a, *b, *c, *d;
    float across, down;
};

INLINE struct NAME(head) NAME(head_around)(const struct job *job, int row, int column) {
    const float step = 1 / job->ratio;
    const float y = inside((row + 0.5f) * step - 0.5f, job->previous_height);
    const float x = inside((column + 0.5f) * step - 0.5f, job->previous_width);
    const int top = (int)y, left = (int)x;
    const int bottom = top + (top < job->previous_height - 1);
    const int right = left + (left < job->previous_width - 1);
    return (struct NAME(head)){NAME(head_at)(job, top, left), NAME(head_at)(job, top, right),
                               NAME(head_at)(job, bottom, left), NAME(head_at)(job, bottom, right),
                               x - left, y - top};
}

INLINE v8 NAME(head8)(const struct job *job, int row, int column) {
    const struct NAME(head) at = NAME(head_around)(job, row, column);
    const v8 a = NAME(load8)(at.a), c = NAME(load8)(at.c);
    const v8 upper = a + at.across * (NAME(load8)(at.b) - a);
    return upper + at.down * (c + at.across * (NAME(load8)(at.d) - c) - upper);
}

INLINE v16 NAME(head16)(const struct job *job, int row, int column) {
    const struct NAME(head) at = NAME(head_around)(job, row, column);
    const v16 a = NAME(load16)(at.a), c = NAME(load16)(at.c);
    const v16 upper = a + at.across * (NAME(load16)(at.b) - a);
    return upper + at.down * (c + at.across * (NAME(load16)(at.d) - c) - upper);
}

/* What a block at `grid` reads: both frames warped and reduced by the mean of the 2 x 2 pixels in the
   middle of each cell (nets/warp.py), then flow, logit, carried features, time. Rows are of the grid. */
KERNEL(block_inputs) {
    const int grid = job->grid, width = job->width / grid, each = grid > 1 ? 2 : 1;
    const int skipped = grid > 1 ? grid / 2 - 1 : 0;
    const float share = 1.0f / (each * each);
    for (int y = first; y < last; y++)
        for (int x = 0; x < width; x++) {
            v8 frame0 = {0}, frame1 = {0};
            v4 motion = {0};
            for (int part = 0; part < each * each; part++) {
                const int row = y * grid + skipped + part / each, column = x * grid + skipped + part % each;
                const v4 flow = job->state ? load4(job->state + 4 * ((ptrdiff_t)row * job->width + column))
                                           : (v4){0};
                const struct places places = places_at(job, column, row, flow);
                frame0 += bilinear8(job, job->picture0, places, 0);
                frame1 += bilinear8(job, job->picture1, places, 2);
                motion += flow;
            }
            v16 known = job->state ? NAME(head16)(job, y, x) : (v16){0};
            motion *= share / grid;
            for (int k = 0; k < 4; k++) known[k] = motion[k];
            known[13] = job->time;
            ELEMENT *to = (ELEMENT *)job->x + ((ptrdiff_t)y * width + x) * 32;
            NAME(store8)(to, frame0 * share);
            NAME(store8)(to + 8, frame1 * share);
            NAME(store16)(to + 16, known);
        }
}

/* Adds the flow of a head to that at full size, of which `source` is what was before. */
KERNEL(add_flow) {
    for (int y = first; y < last; y++)
        for (int x = 0; x < job->width; x++) {
            const ptrdiff_t i = 4 * ((ptrdiff_t)y * job->width + x);
            const v8 found = NAME(head8)(job, y, x);
            v4 flow = job->ratio * __builtin_shufflevector(found, found, 0, 1, 2, 3);
            if (job->source) flow += load4(job->source + i);
            memcpy(job->state + i, &flow, sizeof flow);
        }
}

/* Reads both frames along the flow and mixes them by the last head's logit. */
KERNEL(mix_frames) {
    const int width = job->width;
    const ptrdiff_t size = (ptrdiff_t)job->height * width;
    for (int y = first; y < last; y++)
        for (int x = 0; x < width; x += LANES) {
            const int count = width - x < LANES ? width - x : LANES;
            const ptrdiff_t start = (ptrdiff_t)y * width + x;
            v16 logits = {0};
            float weights[LANES];
            for (int lane = 0; lane < count; lane++) logits[lane] = NAME(head8)(job, y, x + lane)[4];
            store16f(weights, sigmoid(logits));
            for (int lane = 0; lane < count; lane++) {
                const ptrdiff_t i = start + lane;
                const v4 flow = load4(job->state + 4 * i);
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

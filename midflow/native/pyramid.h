/* What lies between the convolutions of a PyramidNet, for one type of elements. */

/* Planar (3, H, W) to pixels: four floats, and what the encoder reads. */
KERNEL(interleave) {
    const ptrdiff_t plane = (ptrdiff_t)job->height * job->width;
    for (ptrdiff_t i = (ptrdiff_t)first * job->width; i < (ptrdiff_t)last * job->width; i++) {
        v8 pixel = {job->source[i], job->source[plane + i], job->source[2 * plane + i]};
        memcpy(job->picture0 + 4 * i, &pixel, 16);
        ELEMENT packed[8];
        NAME(store8)(packed, pixel);
        memcpy((ELEMENT *)job->x + 4 * i, packed, 4 * sizeof(ELEMENT));
    }
}

/* The means of 2 x 2 pixels of a picture of the previous size; where they end, the last ones again.
   Of what the encoder reads, rows and columns go on to whole cells of twice this level's. */
KERNEL(halve) {
    const ptrdiff_t stride = (ptrdiff_t)4 * job->previous_width, wide = (job->width + 7) / 8 * 8;
    for (int y = first; y < last; y++)
        for (int x = 0; x < wide; x++) {
            const int row = y < job->height ? y : job->height - 1;
            const int column = x < job->width ? x : job->width - 1;
            const int top = 2 * row < job->previous_height ? 2 * row : job->previous_height - 1;
            const int left = 2 * column < job->previous_width ? 2 * column : job->previous_width - 1;
            const float *from = job->source + top * stride + 4 * left;
            const ptrdiff_t right = left < job->previous_width - 1 ? 4 : 0;
            const ptrdiff_t below = top < job->previous_height - 1 ? stride : 0;
            const v4 mean = 0.25f * (load4(from) + load4(from + right) + load4(from + below)
                                     + load4(from + below + right));
            if (y == row && x == column)
                memcpy(job->picture0 + 4 * ((ptrdiff_t)y * job->width + x), &mean, 16);
            ELEMENT packed[8];
            NAME(store8)(packed, joined(mean, (v4){0}));
            memcpy((ELEMENT *)job->x + 4 * (y * wide + x), packed, 4 * sizeof(ELEMENT));
        }
}

/* Warped features of one frame, then its warped picture: `encoder_width` and 8 elements. */
INLINE void NAME(view)(const struct job *job, const ELEMENT *features, struct places places, int axis,
                       v4 picture, ELEMENT *view) {
    const ptrdiff_t wide = job->encoder_width;
    const int left = places.whole[axis], top = places.whole[axis + 1];
    const float across = places.rest[axis], down = places.rest[axis + 1];
    const ELEMENT *from = features + (top * (ptrdiff_t)job->width + left) * wide;
    const ptrdiff_t right = job->width > 1 ? wide : 0;
    const ptrdiff_t below = job->height > 1 ? wide * job->width : 0;
    int k = 0;
    for (; k + 16 <= wide; k += 16) NAME(blend8)(from + k, right, below, across, down, view + k);
    if (k < wide) NAME(blend4)(from + k, right, below, across, down, view + k);
    NAME(store8)(view + wide, joined(picture, (v4){0}));
}

/* What the block of a level reads: both views, for the matcher apart, and for the entrance features 0,
   features 1, the estimate (flow, logit, carried features; last time and photometric step), and both
   pictures, warped and as they are. */
KERNEL(level_inputs) {
    const ptrdiff_t size = (ptrdiff_t)job->height * job->width;
    const int wide = job->encoder_width, each = wide + 8;
    struct rows rows = rows_from(job, first);
    if (!rows.warped) return;
    for (int y = first; y < last; y++) {
        struct state states = begin_state(line_at(job, y));
        photometric_row(job, &rows, y);
        const float *warped = warped_row(&rows, y);
        for (int column = 0; column < job->width; column++) {
            const ptrdiff_t i = (ptrdiff_t)y * job->width + column;
            v16 state = next_state(&states);
            const v4 flow = {state[0], state[1], state[2], state[3]};
            const struct places places = places_at(job, column, y, flow);
            const v4 color0 = color_at(warped, rows.stride, column);
            const v4 color1 = color_at(warped + 3 * rows.stride, rows.stride, column);
            ELEMENT *view0 = (ELEMENT *)job->views + i * each, *view1 = view0 + size * each;
            NAME(view)(job, job->features0, places, 0, color0, view0);
            NAME(view)(job, job->features1, places, 2, color1, view1);
            ELEMENT *to = (ELEMENT *)job->x + i * (2 * wide + 32);
            NAME(copy)(to, view0, wide);
            NAME(copy)(to + wide, view1, wide);
            state[13] = job->time;
            state[14] = job->missed[i];
            state[15] = job->missed[size + i];
            NAME(store16)(to + 2 * wide, state);
            NAME(store8)(to + 2 * wide + 16, joined(color0, color1));
            NAME(store8)(to + 2 * wide + 24, joined(load4(job->picture0 + 4 * i), load4(job->picture1 + 4 * i)));
        }
    }
    free(rows.warped);
}

/* Matched features of both views, less their mean and of length 1, into a line for each in every row,
   with a rim of zeros. */
KERNEL(normalize) {
    const int count = job->matched, radius = job->radius;
    const ptrdiff_t stride = job->width + 2 * radius + LANES;
    for (int y = first; y < last; y++) {
        const int view = y >= job->height, row = y - view * job->height + radius;
        const ELEMENT *from = (const ELEMENT *)job->x + (ptrdiff_t)y * job->width * count;
        float *to = job->unit + (view * (job->height + 2 * radius) + row) * count * stride + radius;
        for (int x = 0; x < job->width; x++, from += count) {
            float values[MOST_MATCHED];
            v8 sums = {0}, squares = {0};
            for (int k = 0; k < count; k += 8) sums += NAME(load8)(from + k);
            const float mean = sum8(sums) / count;
            for (int k = 0; k < count; k += 8) {
                const v8 part = NAME(load8)(from + k) - mean;
                squares += part * part;
                memcpy(values + k, &part, sizeof part);
            }
            const float length = sqrtf(sum8(squares));
            const float scale = 1 / (length > NORM_FLOOR ? length : NORM_FLOOR);
            for (int k = 0; k < count; k++) to[k * stride + x] = values[k] * scale;
        }
    }
}

/* How much the features of both views differ at each pixel, with a rim of zeros. */
KERNEL(misfit) {
    const int count = job->matched, radius = job->radius;
    const ptrdiff_t stride = job->width + 2 * radius + LANES, row = count * stride;
    for (int y = first; y < last; y++) {
        const float *unit0 = job->unit + (y + radius) * row + radius;
        const float *unit1 = unit0 + (job->height + 2 * radius) * row;
        for (int x = 0; x < job->width; x += LANES) {
            v16 sum = {0};
            for (int k = 0; k < count; k++) {
                const v16 apart = load16f(unit0 + k * stride + x) - load16f(unit1 + k * stride + x);
                sum += apart * apart;
            }
            memcpy(job->misfit + (y + radius) * stride + radius + x, &sum, sizeof sum);
        }
    }
}

/* Likeness under every displacement of LANES pixels from x on, and behind it what passes by there;
   `radius` is known to the compiler. */
INLINE void NAME(likeness)(const struct job *job, int y, int x, const int radius,
                           float found[MOST_LIKENESS][LANES]) {
    const int count = job->matched, side = 2 * radius + 1;
    const ptrdiff_t stride = job->width + 2 * radius + LANES;
    const ptrdiff_t row = count * stride;
    const float *unit0 = job->unit + x + radius, *unit1 = unit0 + (job->height + 2 * radius) * row;
    const float *misfit = job->misfit + x + radius;
    v16 surely[MOST_SIDE * MOST_SIDE], most = (v16){0} - SHARPNESS * 16;
    for (int dy = -radius; dy <= radius; dy++) {
        const float *row0 = unit0 + (y - dy + radius) * row;
        const float *row1 = unit1 + (y + dy + radius) * row;
        const float *misfit0 = misfit + (y - dy + radius) * stride;
        const float *misfit1 = misfit + (y + dy + radius) * stride;
        v16 sums[MOST_SIDE] = {{0}};
        for (int k = 0; k < count; k++, row0 += stride, row1 += stride)
#pragma GCC unroll 9
            for (int j = 0; j < side; j++)
                sums[j] += load16f(row0 + j - radius) * load16f(row1 + radius - j);
#pragma GCC unroll 9
        for (int j = 0; j < side; j++) {
            const v16 leaky = 0.2f * sums[j];
            const u16x is_less = (u16x)(sums[j] < 0);
            const v16 value = (v16)(((u16x)leaky & is_less) | ((u16x)sums[j] & ~is_less));
            const int place = (dy + radius) * side + j;
            memcpy(found[place], &value, sizeof value);
            surely[place] = SHARPNESS * sums[j] * load16f(misfit0 + j - radius) * load16f(misfit1 + radius - j);
            most = v16_greatest(most, surely[place]);
        }
    }
    v16 total = {0}, across = {0}, down = {0};
    for (int dy = -radius; dy <= radius; dy++)
        for (int j = 0; j < side; j++) {
            const v16 share = exponential(surely[(dy + radius) * side + j] - most);
            total += share;
            across += share * (float)(radius - j);
            down += share * (float)dy;
        }
    across /= total;
    down /= total;
    most = v16_least(most, (v16){0} + SHARPNESS) / SHARPNESS;
    memcpy(found[side * side], &across, sizeof across);
    memcpy(found[side * side + 1], &down, sizeof down);
    memcpy(found[side * side + 2], &most, sizeof most);
}

/* What merge reads: the entrance's output, then the likeness under every displacement, and what passes. */
KERNEL(correlate) {
    const int channels = job->entrance_channels, side = 2 * job->radius + 1;
    const int compared = side * side + PASSING;
    for (int y = first; y < last; y++)
        for (int x = 0; x < job->width; x += LANES) {
            float found[MOST_LIKENESS][LANES];
            memset(found[compared], 0, 8 * sizeof *found); /* what fills the last vector */
            switch (job->radius) {
                case 1: NAME(likeness)(job, y, x, 1, found); break;
                case 2: NAME(likeness)(job, y, x, 2, found); break;
                case 3: NAME(likeness)(job, y, x, 3, found); break;
                default: NAME(likeness)(job, y, x, 4, found);
            }
            for (int lane = 0; lane < LANES && x + lane < job->width; lane++) {
                const ptrdiff_t i = (ptrdiff_t)y * job->width + x + lane;
                ELEMENT packed[MOST_LIKENESS];
                ELEMENT *to = (ELEMENT *)job->merged + i * (channels + compared);
                for (int k = 0; k < compared; k += 8) {
                    v8 part;
                    for (int j = 0; j < 8; j++) part[j] = found[k + j][lane];
                    NAME(store8)(packed + k, part);
                }
                NAME(copy)(to, (const ELEMENT *)job->x + i * channels, channels);
                NAME(copy)(to + channels, packed, compared);
            }
        }
}

/* The estimate after a level, from what its block found: flow, logit, features, one v16 a pixel;
   nothing where the motion is too slow for the level. */
KERNEL(update) {
    const ptrdiff_t size = (ptrdiff_t)job->height * job->width;
    for (int y = first; y < last; y++) {
        struct state states = begin_state(line_at(job, y));
        for (int x = 0; x < job->width; x++) {
            const ptrdiff_t i = (ptrdiff_t)y * job->width + x;
            const ptrdiff_t cell = (ptrdiff_t)(y / 2) * (job->width / 2) + x / 2;
            v16 found = NAME(load16)((const ELEMENT *)job->out + (4 * cell + y % 2 * 2 + x % 2) * 16);
            const v16 before = next_state(&states);
            const float share = found[5 + job->features];
            const v4 step = both_ways(job, i, size, share);
            for (int k = 0; k < 4; k++) found[k] += before[k] + step[k];
            const float across = found[2] - found[0], down = found[3] - found[1];
            if (across * across + down * down < job->slowest) found = (v16){0};
            memcpy(job->state + 16 * i, &found, sizeof found);
        }
    }
}

/* What the last block reads of every 2 x 2 pixels: for each of them warped pictures, pictures and the
   photometric step; then the estimate at that size, and the time. Rows are the frame's, in pairs. */
KERNEL(detail_inputs) {
    const int width = job->width;
    const ptrdiff_t size = (ptrdiff_t)job->height * width;
    struct job half = *job;
    half.ratio = job->ratio / 2;
    struct rows rows = rows_from(job, first);
    if (!rows.warped) return;
    for (int y = first; y < last; y++) {
        struct state states = begin_state(line_at(&half, y / 2));
        photometric_row(job, &rows, y);
        const float *warped = warped_row(&rows, y);
        ELEMENT *to = (ELEMENT *)job->x + (ptrdiff_t)(y / 2) * (width / 2) * 80 + 32 * (y % 2);
        for (int x = 0; x < width; x++, to += x % 2 ? 16 : 64) {
            const ptrdiff_t i = (ptrdiff_t)y * width + x;
            v4 still0 = load4(job->picture0 + 4 * i), still1 = load4(job->picture1 + 4 * i);
            still0[3] = job->missed[i];
            still1[3] = job->missed[size + i];
            NAME(store8)(to, joined(color_at(warped, rows.stride, x), color_at(warped + 3 * rows.stride, rows.stride, x)));
            NAME(store8)(to + 8, joined(still0, still1));
            if (y % 2 && x % 2) {
                v16 state = next_state(&states);
                state[15] = job->time;
                NAME(store16)(to + 16, state);
            }
        }
    }
    free(rows.warped);
}

/* Corrects the estimate at full size, and reads and mixes both frames along it. */
KERNEL(paint) {
    const int width = job->width;
    const ptrdiff_t size = (ptrdiff_t)job->height * width;
    for (int y = first; y < last; y++) {
        struct level levels = begin_level(line_at(job, y));
        for (int x = 0; x < width; x += LANES) {
            const int count = width - x < LANES ? width - x : LANES;
            struct block block;
            if (count < LANES) memset(&block, 0, sizeof block);
            for (int lane = 0; lane < count; lane++) {
                const int column = x + lane;
                const ptrdiff_t i = (ptrdiff_t)y * width + column;
                const ptrdiff_t cell = (ptrdiff_t)(y / 2) * (width / 2) + column / 2;
                const v8 found = NAME(load8)((const ELEMENT *)job->out + (4 * cell + y % 2 * 2 + column % 2) * 8);
                const v8 level = next_level(&levels) + found
                               + joined(both_ways(job, i, size, found[5]), (v4){0});
                memcpy(block.level[lane], &level, sizeof level);
            }
            float weights[LANES], colors[LANES][4];
            v16 logits;
            for (int lane = 0; lane < LANES; lane++) logits[lane] = block.level[lane][4];
            store16f(weights, sigmoid(logits));
            mix(job, &block, x, y, weights, colors);
            const ptrdiff_t start = (ptrdiff_t)y * width + x;
            v16 planes[4];
            turned(colors[0], 4, planes);
            for (int k = 0; k < 3; k++) {
                const v16 plane = v16_least(v16_greatest(planes[k], (v16){0} + job->low), (v16){0} + job->high);
                memcpy(job->frame + k * size + start, &plane, count * sizeof(float));
            }
            if (job->flow) {
                for (int k = 0; k < 4; k++)
                    for (int lane = 0; lane < count; lane++)
                        job->flow[k * size + start + lane] = block.level[lane][k];
                memcpy(job->weight + start, weights, count * sizeof(float));
            }
        }
    }
}

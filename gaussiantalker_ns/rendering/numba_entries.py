"""Second half of the binning: emit the entries, count them per tile, put them into tile lists."""

import numpy as np
from numba import prange

from gaussiantalker_ns.numba_runtime import jit, parallel_kernel
from gaussiantalker_ns.rendering.numba_bins import (
    HALF_WIDTH,
    RECORD,
    TILE_HEIGHT,
    TILE_WIDTH,
    U,
    clipped_rows,
)


@jit
def _chunk(job, num_chunks, count):
    """Bounds of a chunk of a camera's visible Gaussians."""
    chunk = job % num_chunks
    return count * chunk // num_chunks, count * (chunk + 1) // num_chunks


@jit
def _emit(records, at, slot, end_slot, tiles, histogram, num_columns, height):
    """Write the tiles that one splat reaches to its slots; returns how many."""
    u, half_width = records[at + U], records[at + HALF_WIDTH]
    half = np.float32(0.5)
    first = max(int(np.floor((u - half_width - half) / TILE_WIDTH)), 0)
    last = min(int(np.floor((u + half_width) / TILE_WIDTH)), num_columns - 1)
    count = 0
    for column in range(first, last + 1):
        left = np.float32(column * TILE_WIDTH) + half - u
        begin, end = clipped_rows(
            records, at, left, left + np.float32(TILE_WIDTH - 1), 0, height
        )
        if begin > end:
            continue
        for row in range(begin // TILE_HEIGHT, end // TILE_HEIGHT + 1):
            if slot + count == end_slot:
                return count
            tile = row * num_columns + column
            tiles[slot + count] = tile
            histogram[tile] += 1
            count += 1
    return count


@parallel_kernel
def emit_entries(records, order, num_visible, slots, size, tiles, counts, histogram):
    """Let every visible splat name the tiles it reaches.

    Args:
        records: Records of the splats.
        order, num_visible: Visible Gaussians of each camera, nearest first.
        slots: int64 [b * n + 1], first slot of each Gaussian, and their number.
        size: Width and height in pixels.
        tiles: Output int32 [slots], the tile (within its camera) of each used slot.
        counts: Output int32 [b * n], entries of each Gaussian; zeroed by the caller.
        histogram: Output int64 [b * chunks, tiles]; zeroed by the caller.
    """
    num_cameras, n = order.shape
    num_chunks = histogram.shape[0] // num_cameras
    num_columns = (size[0] + TILE_WIDTH - 1) // TILE_WIDTH
    for job in prange(histogram.shape[0]):
        camera = job // num_chunks
        first, last = _chunk(job, num_chunks, num_visible[camera])
        for place in range(first, last):
            index = camera * n + order[camera, place]
            counts[index] = _emit(
                records, index * RECORD, slots[index], slots[index + 1], tiles, histogram[job],
                num_columns, size[1],
            )  # fmt: skip


@jit
def start_lists(histogram, num_cameras, starts):
    """Turn the counts of each chunk and tile into places in the tile lists.

    Args:
        histogram: int64 [b * chunks, tiles], overwritten by each chunk's first place in each list.
        num_cameras: b.
        starts: Output int64 [b * tiles + 1].
    """
    num_jobs, num_tiles = histogram.shape
    num_chunks = num_jobs // num_cameras
    place = 0
    for camera in range(num_cameras):
        for tile in range(num_tiles):
            starts[camera * num_tiles + tile] = place
            for job in range(camera * num_chunks, (camera + 1) * num_chunks):
                histogram[job, tile], place = place, place + histogram[job, tile]
    starts[num_cameras * num_tiles] = place


@parallel_kernel
def fill_lists(order, num_visible, slots, counts, tiles, places, list_splats, list_slots):
    """Put the entries into the lists of their tiles, nearest first.

    Args:
        order, num_visible, slots, counts, tiles: As emitted.
        places: int64 [b * chunks, tiles] from `start_lists`, used up.
        list_splats, list_slots: Outputs int32 [entries]: Gaussian (camera * n + i) and slot.
    """
    num_cameras, n = order.shape
    num_chunks = places.shape[0] // num_cameras
    for job in prange(places.shape[0]):
        camera = job // num_chunks
        first, last = _chunk(job, num_chunks, num_visible[camera])
        for place in range(first, last):
            index = camera * n + order[camera, place]
            for slot in range(slots[index], slots[index] + counts[index]):
                at = places[job, tiles[slot]]
                places[job, tiles[slot]] = at + 1
                list_splats[at] = index
                list_slots[at] = slot

"""The world once more in plain Python: a heap of integer times, fed by the same addressed draws."""

import heapq
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core import keys
from jaxwan.world.durations import duration, residual
from jaxwan.world.spells import USUAL, WIPES

FRACTION = 2**20
NEVER = 2**50
DEPTH = 96  # draws tabulated per address


def after(instant, seconds):
    """Return the integer instant so many seconds later."""
    if not seconds > 0:
        return instant
    return NEVER if np.isinf(seconds) else min(instant + round(float(seconds) * FRACTION), NEVER)


@partial(jax.jit, static_argnums=0)
def _tables(names, knobs, seed):
    width, root = knobs.speed.shape[0], keys.run_key(seed)
    compute, link, *failures = (
        keys.worker_keys(root, purpose, width)
        for purpose in ("compute", "link", *(f"failure.{name}" for name in (*names, "slowdown")))
    )
    if "regional" in names:
        shared = keys.address(keys.stream(root, "failure.regional"), knobs.region.astype("uint32"))
        failures[names.index("regional")] = shared
    count = jnp.arange(DEPTH)

    def words(own):
        return jax.vmap(lambda n: jnp.stack(keys.threefry(own, n, jnp.uint32(0))))(count)

    over = jax.vmap(words)

    def lasts(law, key, process, away=False):
        one = jax.tree.map(lambda leaf: leaf[process], law)
        word = over(key)
        up, down = duration(one.up, word[..., 0]), duration(one.down, word[..., 1])
        if law.down_share is None:
            return up, down, jnp.zeros(width, bool), up[:, 0]
        which, share = (
            keys.to_uniform(word) for word in keys.threefry(key, jnp.uint32(0), jnp.uint32(1))
        )
        begins_down = (which < one.down_share) | away

        def left(law):
            law = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, width), law)
            return residual(law, share, key)

        steady = one.down_share >= 0
        rest = jnp.where(begins_down, left(one.down), left(one.up))
        up = up.at[:, 0].set(jnp.where(steady & ~begins_down, rest, up[:, 0]))
        down = down.at[:, 0].set(jnp.where(steady & begins_down, rest, down[:, 0]))
        return up, down, steady & begins_down, rest

    noise = duration(knobs.compute_noise, over(compute)[..., 0])
    normals = keys.to_normal(over(link))
    outages = [
        lasts(knobs.outages, key, p, ~knobs.online & (names[p] == "churn"))
        for p, key in enumerate(failures[:-1])
    ]
    return noise, normals, outages, lasts(knobs.slowdown, failures[-1], 0)


class Spells:
    """One renewal process of one worker: spells (start, end), worked out as they are needed."""

    def __init__(self, up, down, down_at_zero=False):
        self.durations = zip(up, down, strict=True)
        self.first = down_at_zero
        self.end = 0
        self.advance()

    def advance(self):
        up, down = next(self.durations)
        self.start = after(self.end, 0.0 if self.first else up)
        self.end = after(self.start, down)
        self.first = False


class Record:
    """The outages of one worker as they were recorded."""

    def __init__(self, spells):
        self.spells = iter([*([int(x) for x in spell] for spell in spells), [2**30, 0] * 2])
        self.advance()

    def advance(self):
        a, b, c, d = next(self.spells)
        self.start = NEVER if a >= 2**30 else a * FRACTION + b
        self.end = NEVER if c >= 2**30 else c * FRACTION + d


class Worker:
    """One worker's links, luck and memory."""

    def __init__(self, knobs, tables, index, names):
        self.knobs, self.index, self.names = knobs, index, names
        noise, normals, outages, (slow_up, slow_down, slow_now, _) = tables
        self.noise, self.normals = noise[index], normals[index]
        offline = not knobs.online[index]
        self.outages = [
            Record(knobs.trace.spells[index]) if name == "replay" else
            Spells(up[index], down[index], (offline and name == "churn") or now[index])
            for (up, down, now, _), name in zip(outages, names, strict=True)
        ]  # fmt: skip
        self.away = offline or any(outage.start == 0 for outage in self.outages)
        self.slow = Spells(slow_up[index], slow_down[index], slow_now[index])
        self.cycle, self.seen, self.stranger = 0, 0, True
        self.version, self.ready = 0, 0

    def next_outage(self):
        return min(range(len(self.names)), key=lambda p: (self.outages[p].start, p))

    def pass_outage(self, process):
        self.outages[process].advance()

    def wait(self, now):
        """Pass the outages begun by `now`; tell whether one of them wiped the memory."""
        wiped = False
        while self.ready < NEVER:
            process = self.next_outage()
            if self.outages[process].start > max(self.ready, now):
                break
            self.ready = max(self.ready, self.outages[process].end)
            wiped |= self.names[process] in WIPES
            self.pass_outage(process)
        return wiped

    def costs(self, begin, applied):
        """Return the seconds of download, compute and upload, and the facts of the exchange."""
        knobs, f32 = self.knobs, np.float32
        while self.slow.end <= begin < NEVER:
            self.slow.advance()
        factor = knobs.slowdown_factor if self.slow.start <= begin else f32(1)
        work = knobs.step_s * knobs.local_steps * self.noise[self.cycle] * factor
        compress = f32(0) if knobs.compress_s is None else knobs.compress_s
        work = work / knobs.speed[self.index] + compress
        updates = applied - self.seen
        dense = bool(self.stranger or f32(updates) * knobs.update_bits >= knobs.dense_bits)
        bits = knobs.dense_bits if dense else f32(updates) * knobs.update_bits
        i = self.index
        with np.errstate(divide="ignore"):
            wire_down = bits / knobs.down_bps[i] if bits > 0 else f32(0)
            wire_up = knobs.update_bits / knobs.up_bps[i]
        late = knobs.delay_s[i] + knobs.jitter_s[i] * self.normals[self.cycle]
        late = np.maximum(late, 0)
        hidden = f32(2 / 3) * (work - compress) / knobs.local_steps if knobs.overlap else f32(0)
        upload = wire_up + late[1] - min(hidden, wire_up)
        facts = {"dense": dense, "updates": 0 if dense else updates, "down": wire_down,
                 "up": wire_up, "download_s": wire_down + late[0], "upload_s": upload,
                 "work": work}  # fmt: skip
        return facts

    def live(self, begin, facts, resume):
        """Carry one cycle through the outages: download, compute, upload."""
        left = [after(0, facts[part]) for part in ("download_s", "work", "upload_s")]
        now, lost, started, wiped, lost_at, busy = begin, False, False, False, None, 0
        computed = begin
        while min(now + sum(left), NEVER) < NEVER:
            process = self.next_outage()
            spell = self.outages[process]
            start, end = spell.start, spell.end
            if start > now if lost else start >= min(now + sum(left), NEVER):
                break
            self.pass_outage(process)
            wipes = self.names[process] in WIPES or end >= NEVER
            wiped |= wipes
            if not lost:
                computed = now + left[0] + left[1] if left[0] + left[1] else computed
                span = max(start - now, 0)
                for part in range(3):
                    used = min(span, left[part])
                    left[part] -= used
                    span -= used
                    busy += used if part == 1 else 0
                started |= start > now and left[0] == 0
                if started:
                    lost = left[1] > 0 or wipes
                else:
                    lost = wipes and not resume and start > now
                if lost:
                    lost_at, left = start, [0, 0, 0]
                    computed = min(computed, start)
            now = max(now, end)
        busy += left[1]
        computed = now + left[0] + left[1] if left[0] + left[1] else computed
        return {"computed": computed,
                "end": min(now + sum(left), NEVER), "lost": lost, "lost_at": lost_at,
                "wiped": wiped, "busy": busy / FRACTION}  # fmt: skip


class Books:
    """What the world counts."""

    def __init__(self, width):
        self.counts = Counter()
        self.sums = Counter()
        self.contributions = np.zeros(width, int)
        self.arrivals = np.zeros(width, int)

    def fetch(self, facts):
        self.counts["dense_fetches"] += facts["dense"]
        self.counts["missed_updates"] += facts["updates"]

    def arrival(self, worker, facts, fate):
        latency = (fate["end"] - fate["computed"]) / FRACTION
        self.sums["latency"] += latency
        self.sums["transfer"] += latency + facts["download_s"]
        self.sums["on_wire_up"] += facts["up"]
        self.sums["on_wire_down"] += facts["down"]
        self.arrivals[worker] += 1

    def accept(self, worker, age=0):
        self.counts["accepted"] += 1
        self.counts["staleness_sum"] += age
        self.counts["staleness_max"] = max(self.counts["staleness_max"], age)
        self.contributions[worker] += 1


def fleet(knobs, seed, names):
    """Return the present workers and how many there is room for."""
    knobs = jax.tree.map(np.asarray, knobs)
    tables = jax.tree.map(np.asarray, _tables(names, knobs, seed))
    width = len(knobs.speed)
    return knobs, [Worker(knobs, tables, i, names) for i in range(width) if knobs.present[i]], width


def events(knobs, seed, slots, ticks, names=USUAL):
    """Run the event protocol; return (ticks, books, version, status)."""
    knobs, workers, width = fleet(knobs, seed, names)
    heap, books, version, applied, ends, status = [], Books(width), 0, 0, 0, 0
    pending = {}

    def start(worker, begin):
        facts = worker.costs(begin, applied)
        fate = worker.live(begin, facts, resume=True)
        worker.version, worker.seen = version, applied
        pending[worker.index] = (worker, facts, fate, False)
        heapq.heappush(heap, (fate["end"], worker.index))

    for worker in workers:
        if not worker.away:
            start(worker, 0)
        else:
            worker.wait(0)
            worker.cycle = -1
            fate = {"end": worker.ready, "lost": True, "wiped": True}
            pending[worker.index] = (worker, None, fate, True)
            heapq.heappush(heap, (worker.ready, worker.index))
    record, now = [], 0
    for _ in range(min(ticks, int(knobs.ticks))):
        taken, tick = 0, []
        for slot in range(slots):
            over = ends >= knobs.cycle_ends
            if not over and (not heap or heap[0][0] >= NEVER):
                status, over = 1, True
            accepted = False
            if not over:
                now, index = heapq.heappop(heap)
                worker, facts, fate, joining = pending[index]
                age = version - worker.version
                if not joining:
                    ends += 1
                    books.fetch(facts)
                    books.sums["busy"] += fate["busy"]
                    books.counts["lost"] += fate["lost"]
                if not fate["lost"]:
                    books.arrival(index, facts, fate)
                    accepted = age <= knobs.max_staleness
                    books.counts["rejected"] += not accepted
                if accepted:
                    books.accept(index, age)
                taken += accepted
                tick.append((index, worker.cycle, age, accepted, fate["wiped"]))
            if slot == slots - 1:
                version += taken > 0
                applied += taken
            if not over:
                worker.cycle += 1
                worker.stranger = fate["wiped"]
                start(worker, now)
        record.append((tick, now, version))
    for _, _, fate, joining in pending.values():
        if not joining:
            ahead = max(fate["computed"] - now, 0) / FRACTION
            books.sums["busy"] += max(fate["busy"] - ahead, 0)
    return record, books, version, status


def barrier(knobs, seed, ticks, names=USUAL):
    """Run barrier rounds; return (ticks, books, version, status)."""
    knobs, workers, width = fleet(knobs, seed, names)
    books, version, applied, now, record, status = Books(width), 0, 0, 0, [], 0
    for _ in range(min(ticks, int(knobs.ticks))):
        wiped = {worker.index: worker.wait(now) for worker in workers}
        begin = max(now, min((worker.ready for worker in workers), default=NEVER))
        takers = [worker for worker in workers if worker.ready <= begin]
        if begin >= NEVER:
            status = 1
            break
        lives = []
        for worker in takers:
            worker.stranger |= wiped[worker.index]
            facts = worker.costs(begin, applied)
            lives.append((worker, facts, worker.live(begin, facts, resume=False)))
        closes = max(
            after(fate["lost_at"], knobs.detection_s) if fate["lost"] else fate["end"]
            for _, _, fate in lives
        )
        if closes >= NEVER:
            status = 1
            break
        tick = []
        for worker, facts, fate in lives:
            books.fetch(facts)
            books.sums["busy"] += fate["busy"]
            books.counts["lost"] += fate["lost"]
            if not fate["lost"]:
                books.arrival(worker.index, facts, fate)
                books.accept(worker.index)
            tick.append((worker.index, worker.cycle, 0, not fate["lost"], None))
            worker.cycle += 1
            worker.seen, worker.stranger, worker.ready = applied, fate["wiped"], fate["end"]
        for worker in set(workers) - set(takers):
            worker.stranger |= wiped[worker.index]
        accepted = sum(not fate["lost"] for _, _, fate in lives)
        applied += accepted
        version += accepted > 0
        now = closes
        record.append((tick, now, version))
    return record, books, version, status

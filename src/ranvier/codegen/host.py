"""The support functions of every image: barrier, clock, worker loop, call, stop, memory copies.

The image has no imports, so the few system calls go through the address of libc's `syscall`, which
the runtime puts in the group block. `docs/architecture.md`, section 4, lists the words of the
context and of the group block.

The worker group is a hand-off over one 64-bit generation word:

- The caller writes the job, then adds one to the generation (sequentially consistent), then reads
  `parked`, and wakes the sleepers only when there are some.
- A worker that gives up spinning adds one to `parked` (sequentially consistent), then reads the
  generation again, and sleeps on a futex only while it has not moved.

Either the worker sees the new generation or the caller sees the parked worker; a worker between its
last look and its sleep is caught by the futex, which compares the word again in the kernel. So no
wake-up is lost.

The barrier and the caller's wait for the workers sleep in the same way after a short spin. On a
busy machine this matters: a thread that spins, even one that yields, keeps its core from the thread
it waits for.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.codegen.host_memory import MEMORY_FUNCTIONS
from ranvier.errors import TargetError

SPIN_BEFORE_SLEEP = 2000
"""Turns that a barrier or the caller spins before it sleeps: 45 microseconds on Zen 4."""


@dataclass(frozen=True)
class HostIsa:
    """What instruction sets differ in: the spin-wait hint, what holds later instructions back, and
    Linux's system call numbers.
    """

    pause_declaration: str
    pause_call: str
    order_declaration: str
    order_call: str
    futex: int
    sched_getaffinity: int
    sched_setaffinity: int


ISAS = {
    "x86_64": HostIsa(
        pause_declaration="declare void @llvm.x86.sse2.pause()",
        pause_call="call void @llvm.x86.sse2.pause()",
        order_declaration="declare void @llvm.x86.sse2.lfence()",
        order_call="call void @llvm.x86.sse2.lfence()",
        futex=202,
        sched_getaffinity=204,
        sched_setaffinity=203,
    ),
    "aarch64": HostIsa(
        pause_declaration="declare void @llvm.aarch64.hint(i32)",
        pause_call="call void @llvm.aarch64.hint(i32 1)",
        order_declaration="declare void @llvm.aarch64.isb(i32)",
        order_call="call void @llvm.aarch64.isb(i32 15)",
        futex=98,
        sched_getaffinity=123,
        sched_setaffinity=122,
    ),
}


def host_ir(isa: str = "x86_64") -> str:
    """Return the LLVM IR of the support functions for `isa` ("x86_64" or "aarch64").

    Defines `ranvier_barrier(ptr context, i64 threads)`, `ranvier_clock() -> i64`,
    `ranvier_claim(ptr counters, i64 line, i64 pieces, i64 thread, i64 threads) -> i64`,
    `ranvier_worker(ptr seat) -> ptr`, `ranvier_call(ptr group, ptr context)`,
    `ranvier_stop(ptr group)`, `memcpy`, `memmove` and `memset`, and declares `ranvier_run`, which
    the program has to define. Give it to `build_image` as a module of its own, beside the modules
    of the kernels.

    Raises:
        TargetError: `isa` has no entry in `ISAS`.
    """
    if isa not in ISAS:
        raise TargetError(
            f"no host functions for the instruction set {isa!r}; known: {', '.join(ISAS)}"
        )
    host = ISAS[isa]
    text = _TEMPLATE + MEMORY_FUNCTIONS
    for name, value in (
        ("PAUSE_DECLARATION", host.pause_declaration),
        ("PAUSE", host.pause_call),
        ("ORDER_DECLARATION", host.order_declaration),
        ("ORDER", host.order_call),
        ("FUTEX", str(host.futex)),
        ("SCHED_GETAFFINITY", str(host.sched_getaffinity)),
        ("SCHED_SETAFFINITY", str(host.sched_setaffinity)),
        ("SPIN_BEFORE_SLEEP", str(SPIN_BEFORE_SLEEP)),
    ):
        text = text.replace(f"${name}$", value)
    return text


_TEMPLATE = """
$PAUSE_DECLARATION$
$ORDER_DECLARATION$
declare i64 @llvm.readcyclecounter()
declare void @ranvier_run(ptr, i64, i64)

@ranvier_longest_sleep = hidden constant [2 x i64] [i64 0, i64 1000000]
@llvm.compiler.used = appending global [3 x ptr] [ptr @memcpy, ptr @memmove, ptr @memset],
    section "llvm.metadata"

; Waits until the word at %at is %value: spins first, then sleeps. %sleepers counts those asleep.
; The one who writes the value calls ranvier_wake afterwards. A sleep ends by itself after a
; millisecond, so a writer that knows nothing of sleepers cannot hang anybody.
define hidden void @ranvier_await(ptr %at, i64 %value, ptr %sleepers, ptr %syscall) #0 {
entry:
  %first = load atomic i64, ptr %at acquire, align 8
  %met = icmp eq i64 %first, %value
  br i1 %met, label %done, label %spin
spin:
  %turn = phi i64 [ 0, %entry ], [ %next, %again ]
  $PAUSE$
  %now = load atomic i64, ptr %at acquire, align 8
  %equal = icmp eq i64 %now, %value
  br i1 %equal, label %done, label %again
again:
  %next = add nuw i64 %turn, 1
  %more = icmp ult i64 %next, $SPIN_BEFORE_SLEEP$
  br i1 %more, label %spin, label %park
park:
  %p = atomicrmw add ptr %sleepers, i64 1 seq_cst, align 8
  br label %look
look:
  %seen = load atomic i64, ptr %at seq_cst, align 8
  %there = icmp eq i64 %seen, %value
  br i1 %there, label %unpark, label %sleep
sleep:
  %seen.low = and i64 %seen, 4294967295
  %slept = call i64 (i64, ...) %syscall(
      i64 $FUTEX$, ptr %at, i64 128, i64 %seen.low, ptr @ranvier_longest_sleep)
  br label %look
unpark:
  %u = atomicrmw sub ptr %sleepers, i64 1 seq_cst, align 8
  br label %done
done:
  ret void
}

; Wakes those who sleep in ranvier_await, when there are some; %at has its new value already.
define hidden void @ranvier_wake(ptr %at, ptr %sleepers, ptr %syscall) #0 {
entry:
  %count = load atomic i64, ptr %sleepers seq_cst, align 8
  %none = icmp eq i64 %count, 0
  br i1 %none, label %done, label %wake
wake:
  %woken = call i64 (i64, ...) %syscall(i64 $FUTEX$, ptr %at, i64 129, i64 2147483647)
  br label %done
done:
  ret void
}

; The phase cannot move twice before this thread arrives again, so waiting for "old + 1" is enough.
define hidden void @ranvier_barrier(ptr %context, i64 %threads) #0 {
entry:
  %alone = icmp ule i64 %threads, 1
  br i1 %alone, label %done, label %arrive
arrive:
  %arrivals = getelementptr inbounds i64, ptr %context, i64 8
  %phase = getelementptr inbounds i64, ptr %context, i64 16
  %sleepers = getelementptr inbounds i64, ptr %context, i64 17
  %syscall.at = getelementptr inbounds i64, ptr %context, i64 5
  %syscall = load ptr, ptr %syscall.at, align 8
  %old = load atomic i64, ptr %phase acquire, align 8
  %new = add i64 %old, 1
  %before = atomicrmw add ptr %arrivals, i64 1 acq_rel, align 8
  %arrived = add i64 %before, 1
  %last = icmp eq i64 %arrived, %threads
  br i1 %last, label %release, label %wait
release:
  store atomic i64 0, ptr %arrivals monotonic, align 8
  store atomic i64 %new, ptr %phase seq_cst, align 8
  call void @ranvier_wake(ptr %phase, ptr %sleepers, ptr %syscall)
  br label %done
wait:
  call void @ranvier_await(ptr %phase, i64 %new, ptr %sleepers, ptr %syscall)
  br label %done
done:
  ret void
}

; The clock, read when everything before it has happened. Left alone, a processor reads it out of
; order, while a barrier's last load is still under way: before the others have finished.
define hidden i64 @ranvier_clock() #0 {
entry:
  $ORDER$
  %now = call i64 @llvm.readcyclecounter()
  ret i64 %now
}

; A piece of work that nobody has: its number among those of all threads, or -1. The pieces of a
; thread are counted by a word of its own, %line words behind that of the thread before. A thread
; looks for its own pieces first, then for those of the other threads in its block of four.
define hidden i64 @ranvier_claim(
    ptr %counters, i64 %line, i64 %pieces, i64 %thread, i64 %threads) #0 {
entry:
  br label %visit
visit:
  %distance = phi i64 [ 0, %entry ], [ %farther, %next ]
  %owner = xor i64 %thread, %distance
  %exists = icmp ult i64 %owner, %threads
  br i1 %exists, label %look, label %next
look:
  %place = mul i64 %owner, %line
  %counter = getelementptr inbounds i64, ptr %counters, i64 %place
  %seen = load atomic i64, ptr %counter monotonic, align 8
  %some = icmp ult i64 %seen, %pieces
  br i1 %some, label %take, label %next
take:
  %piece = atomicrmw add ptr %counter, i64 1 monotonic, align 8
  %got = icmp ult i64 %piece, %pieces
  br i1 %got, label %found, label %next
found:
  %before = mul i64 %owner, %pieces
  %number = add i64 %before, %piece
  ret i64 %number
next:
  %farther = add i64 %distance, 1
  %more = icmp ult i64 %farther, 4
  br i1 %more, label %visit, label %none
none:
  ret i64 -1
}

; Makes the memory of a buffer at least %bytes large: a pointer and a capacity in the pool of the
; context. What it holds is copied when %keep is set. Memory grows by half at least, so a buffer
; that grows row by row is copied rarely. Word 24 tells when there is no memory, or not that much.
define hidden void @ranvier_reserve(ptr %context, i64 %place, i64 %bytes, i64 %keep) #0 {
entry:
  %pool.at = getelementptr inbounds i64, ptr %context, i64 7
  %pool = load ptr, ptr %pool.at, align 8
  %slot = getelementptr inbounds i64, ptr %pool, i64 %place
  %capacity.at = getelementptr inbounds i64, ptr %slot, i64 1
  %capacity = load i64, ptr %capacity.at, align 8
  %fits = icmp ule i64 %bytes, %capacity
  %is.there = icmp ne i64 %capacity, 0
  %enough = and i1 %fits, %is.there
  br i1 %enough, label %done, label %grow
grow:
  %limit.at = getelementptr inbounds i64, ptr %context, i64 27
  %limit = load i64, ptr %limit.at, align 8
  %excessive = icmp ugt i64 %bytes, %limit
  br i1 %excessive, label %fault, label %allocate
allocate:
  %half = lshr i64 %capacity, 1
  %grown = add i64 %capacity, %half
  %is.small = icmp ult i64 %grown, %bytes
  %wanted = select i1 %is.small, i64 %bytes, i64 %grown
  %padded = add i64 %wanted, 127
  %rounded = and i64 %padded, -64
  %aligned.alloc.at = getelementptr inbounds i64, ptr %context, i64 28
  %aligned.alloc = load ptr, ptr %aligned.alloc.at, align 8
  %new = call ptr %aligned.alloc(i64 64, i64 %rounded)
  %none = icmp eq ptr %new, null
  br i1 %none, label %fault, label %move
move:
  %old = load ptr, ptr %slot, align 8
  %is.kept = icmp ne i64 %keep, 0
  br i1 %is.kept, label %copy, label %replace
copy:
  %c = call ptr @memcpy(ptr %new, ptr %old, i64 %capacity)
  br label %replace
replace:
  %free.at = getelementptr inbounds i64, ptr %context, i64 29
  %free = load ptr, ptr %free.at, align 8
  call void %free(ptr %old)
  store ptr %new, ptr %slot, align 8
  store i64 %rounded, ptr %capacity.at, align 8
  br label %done
fault:
  %kind.at = getelementptr inbounds i64, ptr %context, i64 24
  store i64 2, ptr %kind.at, align 8
  %number = lshr i64 %place, 1
  %which.at = getelementptr inbounds i64, ptr %context, i64 25
  store i64 %number, ptr %which.at, align 8
  %bytes.at = getelementptr inbounds i64, ptr %context, i64 26
  store i64 %bytes, ptr %bytes.at, align 8
  br label %done
done:
  ret void
}

; Body of a worker thread (a pthread start routine). The seat is two words: the group block and the
; thread's number.
define hidden ptr @ranvier_worker(ptr %seat) #0 {
entry:
  %group = load ptr, ptr %seat, align 8
  %thread.at = getelementptr inbounds i64, ptr %seat, i64 1
  %thread = load i64, ptr %thread.at, align 8
  %threads = load i64, ptr %group, align 8
  %syscall.at = getelementptr inbounds i64, ptr %group, i64 1
  %syscall = load ptr, ptr %syscall.at, align 8
  %spin.at = getelementptr inbounds i64, ptr %group, i64 2
  %spin.limit = load i64, ptr %spin.at, align 8
  %stop.at = getelementptr inbounds i64, ptr %group, i64 3
  %function.at = getelementptr inbounds i64, ptr %group, i64 4
  %context.at = getelementptr inbounds i64, ptr %group, i64 5
  %generation = getelementptr inbounds i64, ptr %group, i64 8
  %parked = getelementptr inbounds i64, ptr %group, i64 16
  %finished = getelementptr inbounds i64, ptr %group, i64 24
  %caller.sleeps = getelementptr inbounds i64, ptr %group, i64 25
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %published, %run ]
  br label %spin
spin:
  %turn = phi i64 [ 0, %idle ], [ %next, %again ]
  %glance = load atomic i64, ptr %generation acquire, align 8
  %fresh = icmp ne i64 %glance, %seen
  br i1 %fresh, label %start, label %again
again:
  $PAUSE$
  %next = add nuw i64 %turn, 1
  %more = icmp ult i64 %next, %spin.limit
  br i1 %more, label %spin, label %park
park:
  %p = atomicrmw add ptr %parked, i64 1 seq_cst, align 8
  br label %check
check:
  %look = load atomic i64, ptr %generation seq_cst, align 8
  %moved = icmp ne i64 %look, %seen
  br i1 %moved, label %unpark, label %sleep
sleep:
  %seen.low = and i64 %seen, 4294967295
  %slept = call i64 (i64, ...) %syscall(
      i64 $FUTEX$, ptr %generation, i64 128, i64 %seen.low, ptr null)
  br label %check
unpark:
  %u = atomicrmw sub ptr %parked, i64 1 seq_cst, align 8
  br label %start
start:
  %published = phi i64 [ %glance, %spin ], [ %look, %unpark ]
  %stop = load i64, ptr %stop.at, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %run
run:
  %function = load ptr, ptr %function.at, align 8
  %context = load ptr, ptr %context.at, align 8
  call void %function(ptr %context, i64 %thread, i64 %threads)
  %f = atomicrmw add ptr %finished, i64 1 seq_cst, align 8
  call void @ranvier_wake(ptr %finished, ptr %caller.sleeps, ptr %syscall)
  br label %idle
leave:
  ret ptr null
}

; Adds one to the generation and wakes the parked workers, when there are some.
define hidden void @ranvier_publish(ptr %group) #0 {
entry:
  %generation = getelementptr inbounds i64, ptr %group, i64 8
  %parked = getelementptr inbounds i64, ptr %group, i64 16
  %g = atomicrmw add ptr %generation, i64 1 seq_cst, align 8
  %sleepers = load atomic i64, ptr %parked seq_cst, align 8
  %none = icmp eq i64 %sleepers, 0
  br i1 %none, label %done, label %wake
wake:
  %syscall.at = getelementptr inbounds i64, ptr %group, i64 1
  %syscall = load ptr, ptr %syscall.at, align 8
  %woken = call i64 (i64, ...) %syscall(i64 $FUTEX$, ptr %generation, i64 129, i64 2147483647)
  br label %done
done:
  ret void
}

; Moves the calling thread to the group's home core (word 7) when it stands elsewhere, and gives it
; its own affinity back at once: workers are pinned, so a caller on a worker's core would halve that
; core's speed for the whole call.
define hidden void @ranvier_go_home(ptr %group) #0 {
entry:
  %mask = alloca [128 x i8], align 16
  %single = alloca [128 x i8], align 16
  %getcpu.at = getelementptr inbounds i64, ptr %group, i64 6
  %getcpu = load ptr, ptr %getcpu.at, align 8
  %free = icmp eq ptr %getcpu, null
  br i1 %free, label %done, label %where
where:
  %home.at = getelementptr inbounds i64, ptr %group, i64 7
  %home = load i64, ptr %home.at, align 8
  %cpu32 = call i32 %getcpu()
  %cpu = sext i32 %cpu32 to i64
  %there = icmp eq i64 %cpu, %home
  br i1 %there, label %done, label %ask
ask:
  %syscall.at = getelementptr inbounds i64, ptr %group, i64 1
  %syscall = load ptr, ptr %syscall.at, align 8
  %size = call i64 (i64, ...) %syscall(i64 $SCHED_GETAFFINITY$, i64 0, i64 128, ptr %mask)
  %bits = shl i64 %size, 3
  %known = icmp slt i64 %home, %bits
  br i1 %known, label %test, label %done
test:
  %byte = lshr i64 %home, 3
  %mask.at = getelementptr inbounds i8, ptr %mask, i64 %byte
  %allowed = load i8, ptr %mask.at
  %bit.wide = and i64 %home, 7
  %bit = trunc i64 %bit.wide to i8
  %flag = shl i8 1, %bit
  %common = and i8 %allowed, %flag
  %forbidden = icmp eq i8 %common, 0
  br i1 %forbidden, label %done, label %move
move:
  store [16 x i64] zeroinitializer, ptr %single, align 16
  %single.at = getelementptr inbounds i8, ptr %single, i64 %byte
  store i8 %flag, ptr %single.at
  %m = call i64 (i64, ...) %syscall(i64 $SCHED_SETAFFINITY$, i64 0, i64 %size, ptr %single)
  %r = call i64 (i64, ...) %syscall(i64 $SCHED_SETAFFINITY$, i64 0, i64 %size, ptr %mask)
  br label %done
done:
  ret void
}

; Runs the whole program on the group; the calling thread is thread 0.
define hidden void @ranvier_call(ptr %group, ptr %context) #0 {
entry:
  %threads = load i64, ptr %group, align 8
  %syscall.at = getelementptr inbounds i64, ptr %group, i64 1
  %syscall = load ptr, ptr %syscall.at, align 8
  %context.syscall = getelementptr inbounds i64, ptr %context, i64 5
  store ptr %syscall, ptr %context.syscall, align 8
  %arrivals = getelementptr inbounds i64, ptr %context, i64 8
  store i64 0, ptr %arrivals, align 8
  call void @ranvier_go_home(ptr %group)
  %alone = icmp ule i64 %threads, 1
  br i1 %alone, label %single, label %group.call
single:
  call void @ranvier_run(ptr %context, i64 0, i64 1)
  ret void
group.call:
  %function.at = getelementptr inbounds i64, ptr %group, i64 4
  store ptr @ranvier_run, ptr %function.at, align 8
  %context.at = getelementptr inbounds i64, ptr %group, i64 5
  store ptr %context, ptr %context.at, align 8
  %finished = getelementptr inbounds i64, ptr %group, i64 24
  store atomic i64 0, ptr %finished monotonic, align 8
  call void @ranvier_publish(ptr %group)
  call void @ranvier_run(ptr %context, i64 0, i64 %threads)
  %workers = sub i64 %threads, 1
  %caller.sleeps = getelementptr inbounds i64, ptr %group, i64 25
  call void @ranvier_await(ptr %finished, i64 %workers, ptr %caller.sleeps, ptr %syscall)
  ret void
}

; Makes every worker return; the runtime joins the threads after it.
define hidden void @ranvier_stop(ptr %group) #0 {
  %stop.at = getelementptr inbounds i64, ptr %group, i64 3
  store i64 1, ptr %stop.at, align 8
  call void @ranvier_publish(ptr %group)
  ret void
}

attributes #0 = { noinline nounwind "no-builtins" }
"""

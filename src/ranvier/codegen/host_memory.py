"""`memcpy`, `memmove` and `memset` of every image, which LLVM calls where it sees such loops.

Tails go byte by byte through volatile accesses: LLVM would make calls of these functions of them.
"""

from __future__ import annotations

MEMORY_FUNCTIONS = """
; Forward, every block read before it is written: the target may lie before the source it overlaps.
define internal ptr @ranvier_copy(ptr %to, ptr %from, i64 %size) #0 {
entry:
  %wide = and i64 %size, -32
  br label %block
block:
  %i = phi i64 [ 0, %entry ], [ %i.next, %block.body ]
  %more = icmp ult i64 %i, %wide
  br i1 %more, label %block.body, label %tail
block.body:
  %source = getelementptr inbounds i8, ptr %from, i64 %i
  %v = load <32 x i8>, ptr %source, align 1
  %target = getelementptr inbounds i8, ptr %to, i64 %i
  store <32 x i8> %v, ptr %target, align 1
  %i.next = add nuw i64 %i, 32
  br label %block
tail:
  %j = phi i64 [ %wide, %block ], [ %j.next, %tail.body ]
  %left = icmp ult i64 %j, %size
  br i1 %left, label %tail.body, label %done
tail.body:
  %source.byte = getelementptr inbounds i8, ptr %from, i64 %j
  %b = load volatile i8, ptr %source.byte
  %target.byte = getelementptr inbounds i8, ptr %to, i64 %j
  store volatile i8 %b, ptr %target.byte
  %j.next = add nuw i64 %j, 1
  br label %tail
done:
  ret ptr %to
}

define hidden ptr @memcpy(ptr %to, ptr %from, i64 %size) #0 {
  %copied = tail call ptr @ranvier_copy(ptr %to, ptr %from, i64 %size)
  ret ptr %copied
}

; Forward when the target lies before the source or clear of it, else backward byte by byte.
define hidden ptr @memmove(ptr %to, ptr %from, i64 %size) #0 {
entry:
  %to.int = ptrtoint ptr %to to i64
  %from.int = ptrtoint ptr %from to i64
  %distance = sub i64 %to.int, %from.int
  %clear = icmp uge i64 %distance, %size
  br i1 %clear, label %forward, label %backward
forward:
  %copied = tail call ptr @ranvier_copy(ptr %to, ptr %from, i64 %size)
  ret ptr %copied
backward:
  %k = phi i64 [ %size, %entry ], [ %k.next, %backward.body ]
  %some = icmp ne i64 %k, 0
  br i1 %some, label %backward.body, label %done
backward.body:
  %k.next = sub i64 %k, 1
  %source.back = getelementptr inbounds i8, ptr %from, i64 %k.next
  %c = load volatile i8, ptr %source.back
  %target.back = getelementptr inbounds i8, ptr %to, i64 %k.next
  store volatile i8 %c, ptr %target.back
  br label %backward
done:
  ret ptr %to
}

define hidden ptr @memset(ptr %to, i32 %value, i64 %size) #0 {
entry:
  %byte = trunc i32 %value to i8
  %one = insertelement <32 x i8> poison, i8 %byte, i64 0
  %all = shufflevector <32 x i8> %one, <32 x i8> poison, <32 x i32> zeroinitializer
  %wide = and i64 %size, -32
  br label %block
block:
  %i = phi i64 [ 0, %entry ], [ %i.next, %block.body ]
  %more = icmp ult i64 %i, %wide
  br i1 %more, label %block.body, label %tail
block.body:
  %target = getelementptr inbounds i8, ptr %to, i64 %i
  store <32 x i8> %all, ptr %target, align 1
  %i.next = add nuw i64 %i, 32
  br label %block
tail:
  %j = phi i64 [ %wide, %block ], [ %j.next, %tail.body ]
  %left = icmp ult i64 %j, %size
  br i1 %left, label %tail.body, label %done
tail.body:
  %target.byte = getelementptr inbounds i8, ptr %to, i64 %j
  store volatile i8 %byte, ptr %target.byte
  %j.next = add nuw i64 %j, 1
  br label %tail
done:
  ret ptr %to
}
"""

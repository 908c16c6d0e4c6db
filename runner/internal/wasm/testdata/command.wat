;; A command for the tests. It copies its input to its output. If the input begins with a
;; number in msgpack, it does something else: 1 traps, 3 exits with code 3, 5 writes for
;; ever, 7 writes nothing, and 9 writes to standard error and exits with code 9.
(module $command
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "nothing works\n")

  ;; 0: an iovec; 16: how much was read or written; the data is at 1024
  (func $transfer_size (result i32) (i32.load (i32.const 16)))
  (func $read (result i32)
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (call $transfer_size))
  (func $write (param $fd i32) (param $at i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16))))
  (func $is (param $way i32) (result i32) (i32.eq (i32.load8_u (i32.const 1024)) (local.get $way)))

  (func $main (export "_start") (local $size i32)
    (local.set $size (call $read))
    (if (call $is (i32.const 1)) (then unreachable))
    (if (call $is (i32.const 3)) (then (call $proc_exit (i32.const 3))))
    (if (call $is (i32.const 5)) (then
      (loop $again (call $write (i32.const 1) (i32.const 1024) (i32.const 65536)) (br $again))))
    (if (call $is (i32.const 7)) (then (return)))
    (if (call $is (i32.const 9)) (then
      (call $write (i32.const 2) (i32.const 64) (i32.const 14)) (call $proc_exit (i32.const 9))))
    (block $end
      (loop $again
        (call $write (i32.const 1) (i32.const 1024) (local.get $size))
        (local.set $size (call $read))
        (br_if $again (local.get $size))))
    (call $proc_exit (i32.const 0))))

;; A module with functions for the tests. Its input is a number in msgpack, which says what
;; it does. Build it with: wat2wasm --debug-names faults.wat
(module $faults
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (table $table 4 funcref)
  (type $nothing (func))
  (global $calls (mut i32) (i32.const 0))

  ;; 16: an iovec of fd_write; 64: a subscription of poll_oneoff to a clock, for ever
  (data (i32.const 16) "\20\00\00\00\06\00\00\00")
  (data (i32.const 32) "words\n")
  (data (i32.const 64) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\40\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")

  ;; The input is at 1024, and a larger one does not fit.
  (func $alloc (export "gophersnake_alloc") (param $size i32) (result i32)
    (if (i32.gt_u (local.get $size) (i32.const 65536)) (then (return (i32.const 0))))
    (i32.const 1024))

  (func $trap unreachable)
  (func $deeper (call $trap))
  (func $recurse (param i64) (result i64)
    (i64.add (call $recurse (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
  (func $loop (loop $again (br $again)))
  (func $eat_memory
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (call $trap))
  (func $eat_table
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 100000)) (i32.const -1)))))
  (func $write (param $fd i32)
    (drop (call $fd_write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 8))))
  (func $flood (loop $again (call $write (i32.const 2)) (br $again)))
  (func $flood_some (local $n i32)
    (loop $again
      (call $write (i32.const 2))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 100000)))))
  (func $sleep (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 8))))
  (func $sleep_on (loop $again (call $sleep) (br $again)))
  (func $random_on (loop $again (drop (call $random_get (i32.const 65536) (i32.const 65536))) (br $again)))

  (func $packed (param $at i32) (param $size i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $size))))

  (func $call (export "gophersnake_call") (param $at i32) (param $size i32) (result i64)
    (local $way i32)
    (local.set $way (i32.load8_u (local.get $at)))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (block $echo
      (block $15 (block $14 (block $13 (block $12 (block $11 (block $10 (block $9 (block $8
      (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1
        (br_table $echo $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15 $echo (local.get $way)))
        (; 1 ;) (call $deeper) (br $echo))
        (; 2 ;) (call $loop) (br $echo))
        (; 3 ;) (call $eat_memory) (br $echo))
        (; 4 ;) (return (call $packed (i32.const -16) (i32.const 64))))
        (; 5 ;) (return (call $packed (i32.const 0) (i32.const -1))))
        (; 6 ;) (drop (i32.div_u (local.get $at) (i32.sub (local.get $way) (i32.const 6)))) (br $echo))
        (; 7 ;) (drop (call $recurse (i64.const 0))) (br $echo))
        (; 8 ;) (call $proc_exit (i32.const 3)) (br $echo))
        (; 9 ;) (call $write (i32.const 2)) (call $deeper) (br $echo))
        (; 10 ;) (return (call $packed (i32.const 1024) (i32.const 0))))
        (; 11 ;) (call_indirect (type $nothing) (i32.const 2)) (br $echo))
        (; 12 ;) (call $eat_table) (br $echo))
        (; 13 ;) (call $sleep_on) (br $echo))
        (; 14 ;) (call $flood) (br $echo))
        (; 15 ;) (drop (call $fd_renumber (i32.const 0) (i32.const 0x7fffffff))) (call $flood_some) (call $write (i32.const 1)) (br $echo))
    (if (i32.eq (local.get $way) (i32.const 16)) (then (call $random_on)))
    (; 17: the number of calls of this instance ;)
    (if (i32.eq (local.get $way) (i32.const 17)) (then
      (i32.store8 (local.get $at) (global.get $calls))
      (return (call $packed (local.get $at) (i32.const 1)))))
    (if (i32.eq (local.get $way) (i32.const 18)) (then (return (call $packed (i32.const 32) (i32.const 6)))))
    (call $packed (local.get $at) (local.get $size))))

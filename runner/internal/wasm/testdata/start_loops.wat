;; A module whose start function does not end.
(module (memory (export "memory") 1)
  (func $endless (loop $again (br $again)))
  (start $endless)
  (func (export "gophersnake_alloc") (param i32) (result i32) (i32.const 8))
  (func (export "gophersnake_call") (param i32 i32) (result i64) (i64.const 0)))

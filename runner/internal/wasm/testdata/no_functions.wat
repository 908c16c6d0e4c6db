;; A module that exports other functions than those that are called.
(module (memory (export "memory") 1)
  (func (export "gophersnake_call") (param i32) (result i64) (i64.const 0))
  (func (export "process") (param i32 i32) (result i32) (i32.const 0)))

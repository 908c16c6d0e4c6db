;; A module that is a command and has functions, too.
(module (memory (export "memory") 1) (func (export "_start"))
  (func (export "gophersnake_alloc") (param i32) (result i32) (i32.const 8))
  (func (export "gophersnake_call") (param i32 i32) (result i64) (i64.const 0)))

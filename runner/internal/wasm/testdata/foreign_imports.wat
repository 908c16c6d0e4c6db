;; A module that needs functions of a browser.
(module (import "env" "alert" (func (param i32)))
  (import "wasi_snapshot_preview1" "fork" (func (result i32)))
  (func (export "_start")))

;; A module that needs a GiB of memory when it starts.
(module (memory (export "memory") 16384) (func (export "_start")))

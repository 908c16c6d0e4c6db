;; A module that needs a GiB for its table when it starts.
(module (memory (export "memory") 1) (table 134217728 funcref) (func (export "_start")))

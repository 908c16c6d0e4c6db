// A program for the crash matrix. It speaks msgpack and does what its input says.
package main

import (
	"os"

	"github.com/vmihailenco/msgpack/v5"
)

func main() {
	in, out := msgpack.NewDecoder(os.Stdin), msgpack.NewEncoder(os.Stdout)
	for {
		var what string
		if err := in.Decode(&what); err != nil {
			return // the end of the input
		}
		var answer any = what
		switch what {
		case "pid":
			answer = os.Getpid()
		case "panic":
			panic("the index is corrupt")
		case "crash":
			var nothing *int
			*nothing = 1
		case "hang":
			for {
				_ = what
			}
		case "garbage":
			_, _ = os.Stdout.Write([]byte{0xc1})
			continue
		case "flood":
			answer = make([]byte, 2<<20)
		case "key":
			answer = map[int]int{1: 2}
		case "twice":
			_, _ = os.Stdout.Write([]byte{1, 2})
			continue
		case "half":
			_, _ = os.Stdout.Write([]byte{0xc6, 0, 0, 0, 9})
			return
		}
		_ = out.Encode(answer)
	}
}

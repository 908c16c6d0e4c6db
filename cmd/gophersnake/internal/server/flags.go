package server

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// requestRate is the value of a flag that takes requests in a second.
type requestRate float64

// Set implements pflag.Value.
func (r *requestRate) Set(text string) error {
	rate, err := serve.ParseRate(text)
	*r = requestRate(rate)
	return err
}

// String implements pflag.Value.
func (r *requestRate) String() string {
	if *r == 0 {
		return ""
	}
	return fmt.Sprintf("%g/s", float64(*r))
}

// Type implements pflag.Value.
func (r *requestRate) Type() string { return "rate" }

// size is the value of a flag that takes a number of bytes.
type size int64

// sizeUnits are the units of sizes, as in manifests.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1},
}

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if bytes := n * unit.bytes; err == nil && bytes >= 1 && bytes < math.MaxInt64 {
			*s = size(bytes)
			return nil
		}
		break
	}
	return errors.New("it takes a size such as 64MiB, 500kB or a number of bytes")
}

// String implements pflag.Value.
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	if *s%(1<<20) == 0 {
		return fmt.Sprintf("%dMiB", *s>>20)
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Type implements pflag.Value.
func (s *size) Type() string { return "size" }

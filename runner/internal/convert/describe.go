package convert

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// longestQuote is the most runes of a string that an error quotes.
const longestQuote = 40

// describe returns a value in the form in which an error mentions it: short, in one line,
// and without control characters.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		if runes := []rune(v[:min(len(v), 8*longestQuote)]); len(runes) > longestQuote {
			return strconv.Quote(string(runes[:longestQuote])) + "…"
		}
		return strconv.Quote(v)
	case json.Number:
		return strconv.Quote(string(v[:min(len(v), longestQuote)]))
	case float64:
		return floatText(v)
	case float32:
		return floatText(float64(v))
	case *big.Int:
		return fmt.Sprintf("an integer of %d bits", v.BitLen())
	case bool, int64, uint64, complex64, complex128:
		return fmt.Sprint(v)
	case []byte:
		return fmt.Sprintf("%d bytes", len(v))
	case []any:
		return fmt.Sprintf("a list of %d items", len(v))
	case map[string]any, ipc.Object:
		n, _ := lengthOf(v)
		return fmt.Sprintf("a map of %d keys", n)
	case time.Time:
		return "the time " + v.Format(time.RFC3339Nano)
	case *ipc.Tensor:
		if v != nil {
			return fmt.Sprintf("a tensor of %.20s with the shape %.80s", v.DType, fmt.Sprint(v.Shape))
		}
	case *ipc.Audio:
		return "audio"
	case *ipc.Image:
		return "an image"
	case *ipc.Table:
		return "a table"
	case ipc.JSON:
		return "a JSON document"
	}
	return fmt.Sprintf("a Go value of type %T", v)
}

// floatText returns a number that does not look like an integer.
func floatText(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if f == float64(int64(f)) && len(text) < 16 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return text
}

package convert_test

import (
	"testing"

	"github.com/gophersnake/gophersnake/runner/internal/convert"
)

type small struct {
	Name  string  `json:"name"`
	Price float64 `json:"price"`
	Count uint8   `json:"count"`
}

var smallValue any = map[string]any{"name": "a", "price": 1.5, "count": int64(3)}

func BenchmarkDecodeSmall(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var out small
		if err := convert.Decode("result", smallValue, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkByHandSmall(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		m, ok := smallValue.(map[string]any)
		name, ok1 := m["name"].(string)
		price, ok2 := m["price"].(float64)
		count, ok3 := m["count"].(int64)
		if !ok || !ok1 || !ok2 || !ok3 || count < 0 || count > 255 {
			b.Fatal("wrong types")
		}
		_ = small{name, price, uint8(count)}
	}
}

func BenchmarkDecodeHundredStructs(b *testing.B) {
	items := make([]any, 100)
	for i := range items {
		items[i] = smallValue
	}
	b.ReportAllocs()
	for b.Loop() {
		var out []small
		if err := convert.Decode("result", items, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeList(b *testing.B) {
	items := make([]any, 1000)
	for i := range items {
		items[i] = float64(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		var out []float32
		if err := convert.Decode("result", any(items), &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeTensor(b *testing.B) {
	same, other := any(tensor(b, make([]float32, 1<<20), 1024, 1024)), any(tensor(b, make([]float64, 1<<20), 1024, 1024))
	for name, v := range map[string]any{"same": same, "other": other} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var out [][]float32
				if err := convert.Decode("result", v, &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

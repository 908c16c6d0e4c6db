package pyenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func BenchmarkFindDamage(b *testing.B) {
	dir := b.TempDir()
	for i := range 200 {
		sub := filepath.Join(dir, "lib", "python3.11", "site-packages", fmt.Sprint("package", i))
		_ = os.MkdirAll(sub, 0o700)
		for j := range 50 {
			_ = os.WriteFile(filepath.Join(sub, fmt.Sprint("module", j, ".py")), []byte("x"), 0o600)
		}
	}
	size, err := writeList(dir)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if found := findDamage(dir, size); found != "" {
			b.Fatal(found)
		}
	}
	b.ReportMetric(10000, "files")
}

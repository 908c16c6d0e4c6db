package runner

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// harmless are the variables of the host's environment that every worker gets: how
// programs are found, in which language they speak, where they put files, and how
// libraries use the machine. None of them is a place for secrets; what is one has to
// be named. The list is documented in docs/isolation.md.
var harmless = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "DISPLAY", "WAYLAND_DISPLAY", "PULSE_SERVER",
	"LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR", "TMPDIR", "TEMP", "TMP", "XDG_*",
	"PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "MPLBACKEND", "MPLCONFIGDIR",
	"LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "MALLOC_*", "GLIBC_TUNABLES",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	"OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "GOTO_*", "BLIS_*", "VECLIB_*", "NUMEXPR_*", "NUMBA_*", "ORT_*",
	"CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "HSA_*", "TORCH_*", "PYTORCH_*", "XLA_*", "TF_CPP_*", "TF_ENABLE_*", "TF_FORCE_*",
	"HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM",
	"ALSA_*", "ESPEAK_DATA_PATH", "FONTCONFIG_*", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA",
}

// WithPassEnv names variables of the host's environment that all workers get besides
// the harmless ones; * and ? stand for any text and any character. A manifest names
// those of a node as pass_env.
func WithPassEnv(names ...string) Option {
	return func(o *options) error {
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, "=/[]\\\x00") {
				return NewError(KindManifest, fmt.Sprintf("WithPassEnv takes names of environment variables and patterns such as AWS_*, not %q", name))
			}
		}
		o.passEnv = append(o.passEnv, names...)
		return nil
	}
}

// workerEnv is what a node's workers get of the host's environment, with what the
// manifest adds.
func workerEnv(n *manifest.Node, pass []string) []string {
	passed := slices.Concat(harmless, pass, n.PassEnv)
	var env []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); matches(name, passed) {
			env = append(env, entry)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Env)) {
		env = append(env, name+"="+n.Env[name]) // the last one counts
	}
	return env
}

// matches reports whether a variable is one of those that patterns name.
func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// missingVariableHint is the hint for code that looked for a variable which the host has
// and does not pass on; it is empty for other errors. The value stays where it is.
func missingVariableHint(r *ipc.RemoteError) string {
	if r.Class != "KeyError" || len(r.Frames) == 0 {
		return ""
	}
	place := r.Frames[len(r.Frames)-1]
	if place.Function != "__getitem__" || place.File != "<frozen os>" && path.Base(place.File) != "os.py" {
		return "" // the key of another map
	}
	name := strings.Trim(r.Message, `'"`)
	if _, ok := os.LookupEnv(name); !ok || matches(name, harmless) {
		return ""
	}
	return "the host has " + name + ", but does not pass it on: name it in the node's pass_env in the manifest"
}

package manifest

import _ "embed"

// Schema is the JSON Schema (draft 2020-12) of manifests, for editors and other
// programs. It describes the shape of a manifest; [Parse] checks more, and says it
// better.
//
//go:embed schema.json
var Schema []byte

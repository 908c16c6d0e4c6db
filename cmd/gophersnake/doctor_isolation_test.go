package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/runner"
)

func TestDoctorSaysWhatNodesCanBeIsolatedWith(t *testing.T) {
	_, checks := doctor(t)
	for _, m := range runner.IsolationMechanisms() {
		got := checks[m.Name]
		assert.Contains(t, got.Detail, m.Detail)
		if m.Works {
			assert.Equal(t, statusOK, got.Status, m.Name)
			continue
		}
		assert.Equal(t, statusWarn, got.Status, "%s: a pipeline need not be isolated", m.Name)
		assert.Contains(t, got.Detail, m.Without)
		assert.Equal(t, m.Hint, got.Hint)
	}
}

package main

import "github.com/gophersnake/gophersnake/runner"

// checkIsolation looks at what nodes can be isolated with. Pipelines that do not ask
// for isolation run without any of it.
func checkIsolation() []check {
	var checks []check
	for _, m := range runner.IsolationMechanisms() {
		c := check{Name: m.Name}
		if m.Works {
			checks = append(checks, c.ok("%s", m.Detail))
			continue
		}
		checks = append(checks, c.warn("%s: %s", m.Detail, m.Without).mend(m.Hint))
	}
	return checks
}

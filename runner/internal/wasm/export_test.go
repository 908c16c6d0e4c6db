package wasm

// Active returns the number of calls that have an instance.
func (m *Module) Active() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.active)
}

// Idle returns the number of idle instances.
func (m *Module) Idle() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.idle)
}

// Waiting returns the number of calls that wait for an instance.
func (m *Module) Waiting() int { return m.line.Waiting() }

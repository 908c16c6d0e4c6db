// Package session keeps the sessions of browsers that have logged in.
package session

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// Sum is the hash of a secret.
type Sum = [sha256.Size]byte

// Age is how long a session lasts.
const Age = 12 * time.Hour

// mostSessions is how many sessions there are at most; a further one ends the oldest.
const mostSessions = 1000

// Store keeps sessions in memory, by the hashes of their ids. The owner of a session is the hash of
// the token that it stands for. The zero Store is ready for use. It
// is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	sessions map[Sum]*list.Element
	byAge    list.List // of *entry, the oldest first
}

type entry struct {
	key   Sum
	owner Sum
	ends  time.Time
}

// Open begins a session of an owner, and returns its id, which cannot be guessed.
func (s *Store) Open(owner Sum, now time.Time) (id string) {
	id = rand.Text()
	e := &entry{key: sha256.Sum256([]byte(id)), owner: owner, ends: now.Add(Age)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions = make(map[Sum]*list.Element)
	}
	for oldest := s.byAge.Front(); oldest != nil; oldest = s.byAge.Front() {
		if s.byAge.Len() < mostSessions && now.Before(oldest.Value.(*entry).ends) {
			break
		}
		s.removeLocked(oldest)
	}
	s.sessions[e.key] = s.byAge.PushBack(e)
	return id
}

// Owner returns the owner of a session, and false if there is no session with the id.
func (s *Store) Owner(id string, now time.Time) (owner Sum, ok bool) {
	key := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	element := s.sessions[key]
	if element == nil {
		return Sum{}, false
	}
	if e := element.Value.(*entry); now.Before(e.ends) {
		return e.owner, true
	}
	s.removeLocked(element)
	return Sum{}, false
}

// Close ends a session, if there is one with the id.
func (s *Store) Close(id string) {
	key := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	if element := s.sessions[key]; element != nil {
		s.removeLocked(element)
	}
}

func (s *Store) removeLocked(element *list.Element) {
	delete(s.sessions, s.byAge.Remove(element).(*entry).key)
}

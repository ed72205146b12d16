package enroll

// WaitingToIssue is how many requests for one token wait to be written together.
func (e *Enroller) WaitingToIssue() int { return e.singles().Waiting() }

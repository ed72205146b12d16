package apitype

// EdgeConfigurationsRequest asks which configuration each group gives, and for the configurations' hashes.
type EdgeConfigurationsRequest struct {
	Since string `json:"since,omitempty"` // revision as last answered, empty for everything
}

// EdgeConfigurations is everything of the path's tenant (without one: of all), or what changed since. A delta says Deleted of
// what is gone.
type EdgeConfigurations struct {
	Revision       string              `json:"revision"` // "<epoch>.<n>", of the same memory as edge/sync
	Full           bool                `json:"full"`
	Groups         []SyncGroup         `json:"groups"`
	Configurations []SyncConfiguration `json:"configurations"`
}

// SyncGroup is which configuration a group gives, empty for none.
type SyncGroup struct {
	Tenant        string `json:"tenant,omitempty"`
	Name          string `json:"name"`
	Configuration string `json:"configuration,omitempty"`
	Deleted       bool   `json:"deleted,omitempty"`
}

// SyncConfiguration is the hash of a configuration, as Configuration has it.
type SyncConfiguration struct {
	Tenant  string `json:"tenant,omitempty"`
	Name    string `json:"name"`
	Hash    string `json:"hash,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
}

// EdgeConfiguration is what an edge gives agents as remote config. The hash goes with it as config_hash, as its 32 bytes.
type EdgeConfiguration struct {
	Name        string `json:"name"`
	Tenant      string `json:"tenant"`
	Hash        string `json:"hash"`
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
}

// What an agent says of its remote config.
const (
	ConfigurationApplying = "applying"
	ConfigurationApplied  = "applied"
	ConfigurationFailed   = "failed"
)

// MaxConfigurationError bounds in bytes what an agent's row keeps of why a configuration failed.
const MaxConfigurationError = 512

// ConfigurationReport is what an agent says of the remote config that it was last given (OpAMP, RemoteConfigStatus).
type ConfigurationReport struct {
	Status string `json:"status"`
	Hash   string `json:"hash"`           // lower-case hex
	Name   string `json:"name,omitempty"` // of the configuration, as far as the edge knows it by its hash
	Error  string `json:"error,omitempty"`
}

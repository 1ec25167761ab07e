"""The processes that face the network: send API, connection servers, workers, command line."""

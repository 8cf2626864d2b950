"""The artifact store: objects, manifests, and the commit that makes an artifact whole or not there."""

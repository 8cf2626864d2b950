"""The science of the digits experiment: plain functions and classes that know nothing of stages."""

//! Words that cross a border: custom resources, validation, wire protocol, web bodies.

//! What the member holds, in the words of the link: objects of the hub, and the cluster resources (REC). Pure.

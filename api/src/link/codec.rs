//! How messages of the link become bytes: protobuf as ever, with buffers that begin small and grow with what is sent. Both ends keep
//! them for as long as a stream stands, and most streams carry a heartbeat now and then.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Bytes that a buffer begins with, and grows by at least. A heartbeat takes less.
const BEGIN: usize = 512;
/// Bytes of several messages after which they are handed to the network together: what tonic takes by default.
const TOGETHER: usize = 32 * 1024;

/// The codec of a call that sends `T` and receives `U`.
#[derive(Clone, Copy, Debug)]
pub struct LinkCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LinkCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BEGIN, TOGETHER)
}

impl<T, U> Codec for LinkCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}

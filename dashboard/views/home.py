def page():
    import streamlit as st
    st.title("GIF Studio")
    st.progress(0.4)
    st.button("x", type="primary")
